{{/* What runs: the services of the mode, each with `defaults`, its own values and what follows from them. */}}

{{/* A map laid over another, given (below, above). Unlike `merge`, 0, false and "" above win. */}}
{{- define "anneal.overlay" -}}
{{- $made := deepCopy (index . 0) -}}
{{- range $key, $value := index . 1 -}}
{{- $below := get $made $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $below) -}}
{{- $value = include "anneal.overlay" (list $below $value) | fromYaml -}}
{{- end -}}
{{- $_ := set $made $key $value -}}
{{- end -}}
{{- toYaml $made -}}
{{- end -}}

{{/* Services whose jobs run in pods of their own, in `distributed`. */}}
{{- define "anneal.launchers" -}}
{{- if eq .Values.mode "distributed" -}}ingestion synthesis curation training evaluation{{- end -}}
{{- end -}}

{{/* Every workload, by the end of its name. */}}
{{- define "anneal.workloads" -}}
{{- $made := dict -}}
{{- if eq .Values.mode "standalone" -}}
{{- $_ := set $made "standalone" (include "anneal.workload" (list . "standalone" .Values.standalone "") | fromYaml) -}}
{{- else -}}
{{- range $service := list "registry" "ingestion" "synthesis" "curation" "training" "evaluation" "gateway" -}}
{{- $_ := set $made $service (include "anneal.workload" (list $ $service (get $.Values $service) "") | fromYaml) -}}
{{- end -}}
{{- range $model := .Values.serving.models -}}
{{- $own := include "anneal.overlay" (list (omit $.Values.serving "models") (omit $model "name")) | fromYaml -}}
{{- $part := printf "serving-%s" $model.name -}}
{{- $_ := set $made $part (include "anneal.workload" (list $ "serving" $own $model.name) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- toYaml $made -}}
{{- end -}}

{{/* One workload, given (root, service, values, name of the base model in serving). */}}
{{- define "anneal.workload" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- $base := index . 3 -}}
{{- $made := include "anneal.overlay" (list $root.Values.defaults (index . 2)) | fromYaml -}}
{{- $part := ternary (printf "serving-%s" $base) $service (ne $base "") -}}
{{- $name := include "anneal.objectName" (list $root $part) -}}
{{- $least := add $made.drainSeconds $made.preStopSeconds -}}
{{- $grace := $made.terminationGracePeriodSeconds | int -}}
{{- $_ := set $made "app" $service -}}
{{- $_ := set $made "part" $part -}}
{{- $_ := set $made "name" $name -}}
{{- $_ := set $made "base" $base -}}
{{- $_ := set $made "grace" (ternary $grace (add $least 30) (gt $grace 0)) -}}
{{- $_ := set $made "launches" (has $service (splitList " " (include "anneal.launchers" $root))) -}}
{{- $_ := set $made "speaksHttp" (has $service (list "gateway" "standalone")) -}}
{{- $_ := set $made "speaksGrpc" (ne $service "gateway") -}}
{{- $_ := set $made "storesThings" (ne $service "gateway") -}}
{{- $_ := set $made "readsDatabase" (and (ne $root.Values.database.existingSecret "") (not (has $service (list "gateway" "serving")))) -}}
{{- $_ := set $made "account" (include "anneal.accountName" (list $made.serviceAccount $name)) -}}
{{- toYaml $made -}}
{{- end -}}

{{/* Image, given (root, service, image values, GPUs). */}}
{{- define "anneal.image" -}}
{{- $all := (index . 0).Values.image -}}
{{- $service := index . 1 -}}
{{- $own := index . 2 -}}
{{- $repository := default (printf "%s/%s" $all.prefix $service | trimPrefix "/") $own.repository -}}
{{- with default $all.registry $own.registry -}}{{ . }}/{{- end -}}
{{- $repository -}}
{{- if $own.digest -}}@{{ $own.digest }}
{{- else if $own.tag -}}:{{ $own.tag }}
{{- else -}}
:{{ default (index . 0).Chart.AppVersion $all.tag }}
{{- if has $service (list "serving" "training") -}}
-{{ default (ternary "cuda" "cpu" (gt (int (index . 3)) 0)) $own.flavor }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* GPUs that the image of a workload must know how to use. */}}
{{- define "anneal.gpus" -}}
{{- if eq .app "serving" -}}
{{- .gpus -}}
{{- else if eq .app "training" -}}
{{- $launcher := .settings.launcher -}}
{{- ternary (dig "ray" "worker" "gpus" 0 $launcher) (dig "pod" "gpus" 0 $launcher) .kuberay.enabled -}}
{{- else -}}
0
{{- end -}}
{{- end -}}
