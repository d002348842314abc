{{/* What no schema can say: values that do not go together, each with what to do about it. */}}
{{- define "anneal.check" -}}
{{- $wrong := list -}}
{{- if eq .Values.mode "distributed" -}}
{{- if not .Values.auth.existingSecret -}}
{{- $wrong = append $wrong "auth.existingSecret: `distributed` needs a secret with the tokens of the services and the keys of the gateway" -}}
{{- end -}}
{{- if not .Values.database.existingSecret -}}
{{- $wrong = append $wrong "database.existingSecret: `distributed` needs a secret with the URL of a PostgreSQL database" -}}
{{- end -}}
{{- if not .Values.store.url -}}
{{- $wrong = append $wrong "store.url: `distributed` needs an object store that all pods reach, such as s3://bucket" -}}
{{- end -}}
{{- if not .Values.serving.models -}}
{{- $wrong = append $wrong "serving.models: `distributed` needs one base model at least" -}}
{{- end -}}
{{- if and .Values.training.kuberay.enabled (not .Values.jobs.scratch.enabled) -}}
{{- $wrong = append $wrong "jobs.scratch.enabled: training with KubeRay needs a claim that the head and the workers share" -}}
{{- end -}}
{{- $names := list -}}
{{- $models := list -}}
{{- range .Values.serving.models -}}
{{- if has .name $names }}{{ $wrong = append $wrong (printf "serving.models: two are called %s" .name) }}{{ end -}}
{{- if has .model $models }}{{ $wrong = append $wrong (printf "serving.models: two serve %s" .model) }}{{ end -}}
{{- $names = append $names .name -}}
{{- $models = append $models .model -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) -}}
{{- $wrong = append $wrong "tls.certManager.issuerRef.name: say which issuer makes the certificate" -}}
{{- end -}}
{{- if and .Values.tls.certManager.enabled .Values.tls.existingSecret -}}
{{- $wrong = append $wrong "tls: either existingSecret or certManager.enabled, not both" -}}
{{- end -}}
{{- if and .Values.tls.mutual (not (include "anneal.tlsSecret" .)) -}}
{{- $wrong = append $wrong "tls.mutual: needs tls.existingSecret or tls.certManager.enabled" -}}
{{- end -}}
{{- if and .Values.tls.mutual (not .Values.tls.caKey) -}}
{{- $wrong = append $wrong "tls.caKey: mutual TLS needs the certificates that clients' are signed by" -}}
{{- end -}}
{{- range include "anneal.missingApis" . | fromJsonArray }}{{ $wrong = append $wrong . }}{{ end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- $wrong = append $wrong "ingress.host: an Ingress needs the host name that it answers to" -}}
{{- end -}}
{{- if not $wrong -}}
{{- include "anneal.prepare" . -}}
{{- range $part, $workload := .Values._workloads -}}
{{- $least := add $workload.drainSeconds $workload.preStopSeconds -}}
{{- if le (int $workload.grace) (int $least) -}}
{{- $wrong = append $wrong (printf "%s.terminationGracePeriodSeconds: %d is not longer than drainSeconds and preStopSeconds together (%d)" $part (int $workload.grace) $least) -}}
{{- end -}}
{{- with $workload.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- $wrong = append $wrong (printf "%s.autoscaling: minReplicas %d is more than maxReplicas %d" $part (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\nvalues that do not go together:\n- %s\n" (join "\n- " $wrong)) -}}
{{- end -}}
{{- end -}}

{{/*
What the values ask for and this cluster's API does not have, a line each, as JSON. Helm itself would end in a mapping error. Only a
cluster that answers names kinds (`apps/v1/Deployment`): a rendering without one, as by `helm template`, knows of no missing API.
*/}}
{{- define "anneal.missingApis" -}}
{{- $missing := list -}}
{{- $has := .Capabilities.APIVersions -}}
{{- if $has.Has "apps/v1/Deployment" -}}
{{- $distributed := eq .Values.mode "distributed" -}}
{{- $wanted := list
  (list .Values.tls.certManager.enabled "cert-manager.io/v1/Certificate" "tls.certManager.enabled" "cert-manager" "name a secret in tls.existingSecret")
  (list (and $distributed .Values.training.kuberay.enabled) "ray.io/v1/RayJob" "training.kuberay.enabled" "KubeRay 1.7 or later" "train in the job's own pod")
  (list (and $distributed (include "anneal.usesKueue" .)) "kueue.x-k8s.io/v1beta1/LocalQueue kueue.x-k8s.io/v1beta2/LocalQueue" "settings.launcher.queue" "Kueue" "start jobs without a queue")
  (list (and $distributed (include "anneal.usesKeda" .)) "keda.sh/v1alpha1/ScaledObject" "serving.autoscaling.enabled with kind `keda`" "KEDA" "set serving.autoscaling.kind to `hpa`")
  (list .Values.monitoring.serviceMonitor.enabled "monitoring.coreos.com/v1/ServiceMonitor" "monitoring.serviceMonitor.enabled" "the Prometheus Operator" "scrape the services by other means")
  (list (and $distributed .Values.monitoring.podMonitor.enabled .Values.training.kuberay.enabled) "monitoring.coreos.com/v1/PodMonitor" "monitoring.podMonitor.enabled" "the Prometheus Operator" "scrape Ray by other means")
  (list .Values.monitoring.prometheusRule.enabled "monitoring.coreos.com/v1/PrometheusRule" "monitoring.prometheusRule.enabled" "the Prometheus Operator" "load the files in deploy/prometheus/rules by other means")
-}}
{{- range $wanted -}}
{{- if index . 0 -}}
{{- $found := false -}}
{{- range splitList " " (index . 1) -}}
{{- if $has.Has . }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if not $found -}}
{{- $api := regexFind "[^ ]+" (index . 1) -}}
{{- $missing = append $missing (printf "%s: this cluster has no %s: install %s first, or switch the value off and %s" (index . 2) $api (index . 3) (index . 4)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $missing -}}
{{- end -}}

{{/* Whether jobs of some service wait in a queue of Kueue; empty where none do. */}}
{{- define "anneal.usesKueue" -}}
{{- include "anneal.prepare" . -}}
{{- range $_, $workload := .Values._workloads -}}
{{- if and $workload.launches (or (dig "launcher" "queue" "" $workload.settings) (dig "launcher" "queues" list $workload.settings)) -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether some base model is scaled by KEDA; empty where none is. */}}
{{- define "anneal.usesKeda" -}}
{{- include "anneal.prepare" . -}}
{{- range $_, $workload := .Values._workloads -}}
{{- with $workload.autoscaling -}}
{{- if and .enabled (eq (default "hpa" .kind) "keda") -}}true{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
