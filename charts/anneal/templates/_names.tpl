{{/* What things are called and labelled. */}}

{{- define "anneal.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 36 | trimSuffix "-" -}}
{{- end -}}

{{/* Prefix of all names; short enough for `-serving-` and a model's name behind it in a DNS label. */}}
{{- define "anneal.fullname" -}}
{{- $name := include "anneal.name" . -}}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $made .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of a service's objects, given (root, service); `standalone` has the prefix alone. */}}
{{- define "anneal.objectName" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- include "anneal.fullname" $root -}}
{{- if ne $part "standalone" -}}-{{ $part }}{{- end -}}
{{- end -}}

{{/* Labels that select all pods of a release. They can never change. */}}
{{- define "anneal.releaseLabels" -}}
app.kubernetes.io/name: {{ include "anneal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels that select the pods of a workload, given (root, workload). They can never change. */}}
{{- define "anneal.selectorLabels" -}}
{{- $workload := index . 1 -}}
{{ include "anneal.releaseLabels" (index . 0) }}
app.kubernetes.io/component: {{ $workload.app }}
{{- with $workload.base }}
anneal.dev/base: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object, given (root, component). */}}
{{- define "anneal.labels" -}}
{{- $root := index . 0 -}}
{{ include "anneal.releaseLabels" $root }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: anneal
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name, labels and annotations, given (root, name, component, annotations, further labels). */}}
{{- define "anneal.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
labels:
  {{- include "anneal.labels" (list $root (index . 2)) | nindent 2 }}
  {{- if gt (len .) 4 }}
  {{- with index . 4 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
{{- $annotations := dict -}}
{{- if gt (len .) 3 -}}{{- $annotations = index . 3 -}}{{- end -}}
{{- with merge dict $annotations $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "anneal.authSecret" -}}
{{- default (printf "%s-auth" (include "anneal.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}

{{/* Secret with the certificate of all gRPC connections; empty where there is no TLS. */}}
{{- define "anneal.tlsSecret" -}}
{{- if .Values.tls.existingSecret -}}
{{- .Values.tls.existingSecret -}}
{{- else if .Values.tls.certManager.enabled -}}
{{- include "anneal.fullname" . -}}-tls
{{- end -}}
{{- end -}}

{{/* Claim that the pods of jobs share; empty where they share none. */}}
{{- define "anneal.scratchClaim" -}}
{{- with .Values.jobs.scratch -}}
{{- if .enabled -}}
{{- default (printf "%s-scratch" (include "anneal.fullname" $)) .existingClaim -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Service account, given (account, name that is made up). */}}
{{- define "anneal.accountName" -}}
{{- $account := index . 0 -}}
{{- default (ternary (index . 1) "default" $account.create) $account.name -}}
{{- end -}}
