{{/* The pods, one concern each. */}}

{{- define "anneal.tlsVolume" -}}
name: tls
secret:
  secretName: {{ include "anneal.tlsSecret" . }}
  defaultMode: 0440
  items:
    - {key: tls.crt, path: tls.crt}
    - {key: tls.key, path: tls.key}
    {{- with .Values.tls.caKey }}
    - {key: {{ . }}, path: ca.crt}
    {{- end }}
{{- end -}}

{{- define "anneal.tlsMount" -}}
{name: tls, mountPath: /etc/anneal/tls, readOnly: true}
{{- end -}}

{{/* Claim that holds `/data`, given (root, workload); empty where none does, or where a StatefulSet makes it. */}}
{{- define "anneal.dataClaim" -}}
{{- $workload := index . 1 -}}
{{- with $workload.persistence -}}
{{- if and .enabled (or .existingClaim (ne $workload.app "standalone")) -}}
{{- default (printf "%s-data" $workload.name) .existingClaim -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "anneal.volumes" -}}
{{- $root := index . 0 -}}
{{- $workload := index . 1 -}}
{{- if include "anneal.dataClaim" . }}
- name: data
  persistentVolumeClaim: {claimName: {{ include "anneal.dataClaim" . }}}
{{- else if not (and $workload.persistence.enabled (eq $workload.app "standalone")) }}
- name: data
  emptyDir: {sizeLimit: {{ $workload.volumes.data | quote }}}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: {{ $workload.volumes.tmp | quote }}}
{{- with $workload.volumes.shm }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ . | quote }}}
{{- end }}
{{- if and $workload.launches (include "anneal.scratchClaim" $root) }}
- name: scratch
  persistentVolumeClaim: {claimName: {{ include "anneal.scratchClaim" $root }}}
{{- end }}
{{- if include "anneal.tlsSecret" $root }}
- {{ include "anneal.tlsVolume" $root | indent 2 | trim }}
{{- end }}
{{- with $workload.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "anneal.mounts" -}}
{{- $root := index . 0 -}}
{{- $workload := index . 1 }}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- with $workload.volumes.shm }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- if and $workload.launches (include "anneal.scratchClaim" $root) }}
- {name: scratch, mountPath: /data/scratch, subPath: scratch}
{{- if eq $workload.app "ingestion" }}
- {name: scratch, mountPath: /data/uploads, subPath: uploads}
{{- end }}
{{- end }}
{{- if include "anneal.tlsSecret" $root }}
- {{ include "anneal.tlsMount" $root }}
{{- end }}
{{- with $workload.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where a pod may run, given (root, workload). */}}
{{- define "anneal.placement" -}}
{{- $root := index . 0 -}}
{{- $workload := index . 1 -}}
{{- with $workload.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $workload.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := $workload.tolerations -}}
{{- if gt (int $workload.gpus) 0 -}}
{{- $tolerations = append $tolerations (dict "key" $workload.gpuResource "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $workload.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $workload.topologySpreadConstraints }}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "anneal.selectorLabels" (list $root $workload) | fromYaml)) }}
topologySpreadConstraints:
  {{- range . }}
  - {{ merge (deepCopy .) $own | toYaml | indent 4 | trim }}
  {{- end }}
{{- end }}
{{- with $workload.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $workload.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Requests and limits, with GPUs as both. */}}
{{- define "anneal.resources" -}}
{{- $made := deepCopy .resources -}}
{{- if gt (int .gpus) 0 -}}
{{- $gpus := dict .gpuResource (.gpus | toString) -}}
{{- range $sort := list "limits" "requests" -}}
{{- $_ := set $made $sort (merge (deepCopy $gpus) (default dict (get $made $sort))) -}}
{{- end -}}
{{- end -}}
{{- toYaml $made -}}
{{- end -}}

{{- define "anneal.probe" -}}
httpGet: {path: {{ index . 0 }}, port: metrics}
{{ toYaml (index . 1) }}
{{- end -}}

{{/* What the container runs: always the interpreter and a module, which every image has; a test holds them against the images. */}}
{{- define "anneal.command" -}}
{{- if eq .app "standalone" -}}
{{- $given := list "--host" "0.0.0.0" "--data-dir" "/data" "--grpc-port" "50051" "--http-port" "8080" -}}
{{- concat (list "python" "-m" "anneal.cli" "up") $given .extraArgs | toJson -}}
{{- else -}}
{{- list "python" "-m" (printf "anneal.%s" .app) | toJson -}}
{{- end -}}
{{- end -}}

{{/* A pod's template, given (root, workload). */}}
{{- define "anneal.podTemplate" -}}
{{- $root := index . 0 -}}
{{- $workload := index . 1 -}}
metadata:
  labels:
    {{- include "anneal.selectorLabels" . | nindent 4 }}
    {{- with $workload.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $workload.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ $workload.account }}
  automountServiceAccountToken: {{ $workload.launches }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $workload.grace }}
  securityContext:
    {{- toYaml $workload.podSecurityContext | nindent 4 }}
  {{- include "anneal.placement" . | nindent 2 }}
  containers:
    - name: {{ $workload.app }}
      image: {{ include "anneal.image" (list $root $workload.app $workload.image (include "anneal.gpus" $workload)) | quote }}
      imagePullPolicy: {{ default $root.Values.image.pullPolicy $workload.image.pullPolicy }}
      command: {{ include "anneal.command" $workload }}
      env:
        {{- include "anneal.env" . | nindent 8 }}
      {{- include "anneal.envFrom" . | nindent 6 }}
      ports:
        {{- if $workload.speaksGrpc }}
        - {name: grpc, containerPort: 50051}
        {{- end }}
        {{- if $workload.speaksHttp }}
        - {name: http, containerPort: 8080}
        {{- end }}
        - {name: metrics, containerPort: 9090}
      startupProbe:
        {{- include "anneal.probe" (list "/livez" $workload.startupProbe) | nindent 8 }}
      livenessProbe:
        {{- include "anneal.probe" (list "/livez" $workload.livenessProbe) | nindent 8 }}
      readinessProbe:
        {{- include "anneal.probe" (list "/readyz" $workload.readinessProbe) | nindent 8 }}
      lifecycle:
        preStop: {sleep: {seconds: {{ $workload.preStopSeconds }}}}
      resources:
        {{- include "anneal.resources" $workload | nindent 8 }}
      securityContext:
        {{- toYaml $workload.securityContext | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts:
        {{- include "anneal.mounts" . | nindent 8 }}
  volumes:
    {{- include "anneal.volumes" . | nindent 4 }}
{{- end -}}

{{- define "anneal.envFrom" -}}
{{- $root := index . 0 -}}
{{- $workload := index . 1 -}}
{{- $from := $workload.extraEnvFrom -}}
{{- if and $workload.storesThings $root.Values.store.existingSecret -}}
{{- $from = prepend $from (dict "secretRef" (dict "name" $root.Values.store.existingSecret)) -}}
{{- end -}}
{{- with $from }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Spec of a claim that is made, given (storage class, access modes, size). */}}
{{- define "anneal.claimSpec" -}}
accessModes: {{ index . 1 | toJson }}
{{- with index . 0 }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ index . 2 | quote }}}}
{{- end -}}
