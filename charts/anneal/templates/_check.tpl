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
