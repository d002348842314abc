{{/* What runs: the services of the mode, each with `defaults`, its own values and what follows from them. */}}

{{/* Lays a map over another one, in place, given (below, above). Unlike `mergeOverwrite`, 0, false and "" above win. */}}
{{- define "anneal.overlay" -}}
{{- $under := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- $below := get $under $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $below) -}}
{{- include "anneal.overlay" (list $below $value) -}}
{{- else -}}
{{- $_ := set $under $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Services whose jobs run in pods of their own, in `distributed`. */}}
{{- define "anneal.launchers" -}}
{{- if eq .Values.mode "distributed" -}}ingestion synthesis curation training evaluation{{- end -}}
{{- end -}}

{{/* Puts every workload into `.Values._workloads`, by the end of its name: once, because it is asked for in every file. */}}
{{- define "anneal.prepare" -}}
{{- if not (hasKey .Values "_workloads") -}}
{{- $_ := set .Values "_workloads" dict -}}
{{- if eq .Values.mode "standalone" -}}
{{- include "anneal.addWorkload" (list . "standalone" "" .Values.standalone) -}}
{{- else -}}
{{- range $service := list "registry" "ingestion" "synthesis" "curation" "training" "evaluation" "gateway" -}}
{{- include "anneal.addWorkload" (list $ $service "" (get $.Values $service)) -}}
{{- end -}}
{{- range .Values.serving.models -}}
{{- include "anneal.addWorkload" (list $ "serving" .name (omit $.Values.serving "models") (omit . "name")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* One workload, given (root, service, name of the base model in serving, values, values over those). */}}
{{- define "anneal.addWorkload" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- $base := index . 2 -}}
{{- $made := deepCopy $root.Values.defaults -}}
{{- range slice . 3 -}}
{{- include "anneal.overlay" (list $made (deepCopy .)) -}}
{{- end -}}
{{- $part := ternary (printf "serving-%s" $base) $service (ne $base "") -}}
{{- $name := include "anneal.objectName" (list $root $part) -}}
{{- $least := add $made.drainSeconds $made.preStopSeconds -}}
{{- $grace := $made.terminationGracePeriodSeconds | int -}}
{{- $more := dict
  "app" $service
  "part" $part
  "name" $name
  "base" $base
  "account" (include "anneal.accountName" (list $made.serviceAccount $name))
  "grace" (ternary $grace (add $least 30) (gt $grace 0))
  "launches" (has $service (splitList " " (include "anneal.launchers" $root)))
  "speaksHttp" (has $service (list "gateway" "standalone"))
  "speaksGrpc" (ne $service "gateway")
  "storesThings" (ne $service "gateway")
  "readsDatabase" (and (ne $root.Values.database.existingSecret "") (not (has $service (list "gateway" "serving"))))
-}}
{{- $_ := set $root.Values._workloads $part (merge $more $made) -}}
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
