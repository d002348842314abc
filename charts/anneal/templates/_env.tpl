{{/* What processes are told. Every ANNEAL_ name is a field of the settings in services/anneal, which a test checks. */}}

{{/* One variable, given (name, value): strings as they are, everything else as JSON. */}}
{{- define "anneal.variable" -}}
{{- $value := index . 1 }}
- name: {{ index . 0 }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end -}}

{{/* One variable from a secret, given (name, secret, key). */}}
{{- define "anneal.secretVariable" }}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ index . 1 }}, key: {{ index . 2 }}}}
{{- end -}}

{{/* `{jobs: {max_running: 4}}` as ANNEAL_JOBS__MAX_RUNNING. */}}
{{- define "anneal.settings" -}}
{{- range $group, $fields := . -}}
{{- if kindIs "map" $fields -}}
{{- range $field, $value := $fields -}}
{{- include "anneal.variable" (list (printf "ANNEAL_%s__%s" (upper $group) (upper $field)) $value) -}}
{{- end -}}
{{- else -}}
{{- include "anneal.variable" (list (printf "ANNEAL_%s" (upper $group)) $fields) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Folders that a process may write, the root being read-only. */}}
{{- define "anneal.folders" -}}
{{- range $name, $value := dict "HOME" "/tmp" "HF_HOME" "/tmp/huggingface" "XDG_CACHE_HOME" "/tmp/cache" "ANNEAL_DATA_DIR" "/data" "PYTHONUNBUFFERED" "1" -}}
{{- include "anneal.variable" (list $name $value) -}}
{{- end -}}
{{- end -}}

{{- define "anneal.tlsSettings" -}}
{{- if include "anneal.tlsSecret" . -}}
{{- $files := dict "cert" "/etc/anneal/tls/tls.crt" "key" "/etc/anneal/tls/tls.key" -}}
{{- with .Values.tls.caKey }}{{ $_ := set $files "ca" "/etc/anneal/tls/ca.crt" }}{{ end -}}
{{- if .Values.tls.mutual }}{{ $_ := set $files "mutual" true }}{{ end -}}
{{- toYaml $files -}}
{{- end -}}
{{- end -}}

{{/* What the chart itself says about a workload, as settings, given (root, workload). */}}
{{- define "anneal.ownSettings" -}}
{{- $root := index . 0 -}}
{{- $workload := index . 1 -}}
{{- $made := dict "metrics" (dict "host" "0.0.0.0" "port" 9090 "public" true) -}}
{{- $grpc := dict "drain_s" $workload.drainSeconds -}}
{{- if ne $workload.app "standalone" -}}
{{- $grpc = merge $grpc (dict "host" "0.0.0.0" "port" 50051 "max_connection_age_s" 300) -}}
{{- $_ := set $made "addresses" (include "anneal.addresses" (list $root $workload.app)) -}}
{{- end -}}
{{- if $workload.speaksGrpc }}{{ $_ := set $made "grpc" $grpc }}{{ end -}}
{{- with include "anneal.tlsSettings" $root }}{{ $_ := set $made "tls" (fromYaml .) }}{{ end -}}
{{- if $workload.storesThings -}}
{{- $store := dict -}}
{{- with $root.Values.store.url }}{{ $_ := set $store "url" . }}{{ end -}}
{{- with $root.Values.store.options }}{{ $_ := set $store "options" . }}{{ end -}}
{{- $_ := set $made "store" $store -}}
{{- end -}}
{{- if eq $workload.app "registry" -}}
{{- $_ := set $made "registry" (dict "migrates" (not $root.Values.migrations.enabled)) -}}
{{- else if eq $workload.app "gateway" -}}
{{- $_ := set $made "gateway" (dict "host" "0.0.0.0" "port" 8080 "drain_s" $workload.drainSeconds) -}}
{{- else if eq $workload.app "standalone" -}}
{{- $_ := set $made "gateway" (dict "drain_s" $workload.drainSeconds) -}}
{{- else if eq $workload.app "serving" -}}
{{- $_ := set $made "serving" (include "anneal.servingSettings" $workload | fromYaml) -}}
{{- $_ := set $made "engine" (dict "max_rank" $workload.maxRank) -}}
{{- else if eq $workload.app "training" -}}
{{- $_ := set $made "engine" (include "anneal.engineSettings" $root | fromYaml) -}}
{{- end -}}
{{- if $workload.launches -}}
{{- $_ := set $made "launcher" (include "anneal.launcherSettings" . | fromYaml) -}}
{{- end -}}
{{- toYaml $made -}}
{{- end -}}

{{/* What training knows of the engines: the room for adapters of each base model, and where they compute. The first model's servers also
answer for models that have none. */}}
{{- define "anneal.engineSettings" -}}
{{- $ranks := dict -}}
{{- $first := .Values.serving.maxRank -}}
{{- $gpus := 0 -}}
{{- range $index, $model := .Values.serving.models -}}
{{- $rank := ternary $model.maxRank $.Values.serving.maxRank (hasKey $model "maxRank") -}}
{{- if eq $index 0 }}{{ $first = $rank }}{{ end -}}
{{- $_ := set $ranks $model.model $rank -}}
{{- $gpus = max $gpus (ternary $model.gpus $.Values.serving.gpus (hasKey $model "gpus") | int) -}}
{{- end -}}
{{- dict "max_rank" $first "max_ranks" $ranks "device" (ternary "cuda" "cpu" (gt (int $gpus) 0)) | toYaml -}}
{{- end -}}

{{- define "anneal.servingSettings" -}}
{{- $gpus := int .gpus -}}
{{- $made := dict "preload" (list .model) "max_engines" 1 "dtype" .dtype "max_adapters" .maxAdapters -}}
{{- $made = merge $made (dict "start_s" .startSeconds "tensor_parallel" (max 1 $gpus)) -}}
{{- if and (gt $gpus 0) (not (hasKey (default dict .settings.serving) "kv_cache_bytes")) -}}
{{- $_ := set $made "kv_cache_bytes" 0 -}}
{{- end -}}
{{- toYaml $made -}}
{{- end -}}

{{/* How a service starts the pods of its jobs, given (root, workload). */}}
{{- define "anneal.launcherSettings" -}}
{{- $root := index . 0 -}}
{{- $workload := index . 1 -}}
{{- $asked := default dict $workload.settings.launcher -}}
{{- $made := dict
  "kind" "kubernetes"
  "owner" $workload.name
  "role" $workload.name
  "host" (printf "%s:50051" $workload.name)
  "image" (include "anneal.image" (list $root $workload.app $workload.image (include "anneal.gpus" $workload)))
  "image_pull_policy" (default $root.Values.image.pullPolicy $workload.image.pullPolicy)
  "service_account" (include "anneal.accountName" (list $root.Values.jobs.serviceAccount (include "anneal.objectName" (list $root "job"))))
-}}
{{- with $workload.podSecurityContext.runAsUser }}{{ $_ := set $made "user" . }}{{ end -}}
{{- with $workload.imagePullSecrets -}}
{{- $names := list }}{{ range . }}{{ $names = append $names .name }}{{ end -}}
{{- $_ := set $made "image_pull_secrets" $names -}}
{{- end -}}
{{- with $root.Values.store.existingSecret -}}
{{- $_ := set $made "env_from_secrets" (prepend (default list $asked.env_from_secrets) .) -}}
{{- end -}}
{{- $volumes := default list $asked.volumes -}}
{{- $mounts := default list $asked.mounts -}}
{{- with include "anneal.tlsSecret" $root -}}
{{- $volumes = append $volumes (include "anneal.tlsVolume" $root | fromYaml) -}}
{{- $mounts = append $mounts (include "anneal.tlsMount" $root | fromYaml) -}}
{{- end -}}
{{- with include "anneal.scratchClaim" $root -}}
{{- $_ := set $made "scratch_claim" . -}}
{{- end -}}
{{- if $volumes }}{{ $_ := set $made "volumes" $volumes }}{{ end -}}
{{- if $mounts }}{{ $_ := set $made "mounts" $mounts }}{{ end -}}
{{- if eq $workload.app "training" -}}
{{- $ray := dict "enabled" $workload.kuberay.enabled -}}
{{- with $workload.kuberay.image }}{{ $_ := set $ray "image" . }}{{ end -}}
{{- $_ := set $made "ray" (merge $ray (default dict $asked.ray)) -}}
{{- end -}}
{{- toYaml $made -}}
{{- end -}}

{{/* All variables of a workload, given (root, workload). */}}
{{- define "anneal.env" -}}
{{- $root := index . 0 -}}
{{- $workload := index . 1 -}}
{{- $own := include "anneal.ownSettings" . | fromYaml -}}
{{- include "anneal.folders" $root -}}
{{- $told := deepCopy $workload.settings -}}
{{- include "anneal.overlay" (list $told $own) -}}
{{- include "anneal.settings" $told -}}
{{- include "anneal.secretVariable" (list "ANNEAL_TOKENS" (include "anneal.authSecret" $root) $root.Values.auth.tokensKey) -}}
{{- if $workload.speaksHttp -}}
{{- include "anneal.secretVariable" (list "ANNEAL_GATEWAY__KEYS" (include "anneal.authSecret" $root) $root.Values.auth.gatewayKeysKey) -}}
{{- end -}}
{{- if $workload.readsDatabase -}}
{{- include "anneal.secretVariable" (list "ANNEAL_DATABASE_URL" $root.Values.database.existingSecret $root.Values.database.key) -}}
{{- end -}}
{{- with $workload.extraEnv }}
{{ toYaml . }}
{{- end -}}
{{- end -}}
