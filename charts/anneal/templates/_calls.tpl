{{/*
Who calls whom over gRPC. Addresses and network policies follow from this one table, and a test derives it from the code.
`pod` is the service's own process, `jobs` are the pods of its jobs, which also call the service that started them.
*/}}
{{- define "anneal.calls" -}}
registry: {pod: [], jobs: []}
ingestion: {pod: [registry], jobs: [registry]}
synthesis: {pod: [registry], jobs: [registry]}
curation: {pod: [registry], jobs: [registry]}
training: {pod: [registry], jobs: [registry, serving]}
serving: {pod: [registry], jobs: []}
evaluation: {pod: [registry], jobs: [registry, serving]}
gateway: {pod: [registry, serving], jobs: []}
{{- end -}}

{{/* `service -> host:port` of what a service and its jobs call, as JSON, given (root, service). */}}
{{- define "anneal.addresses" -}}
{{- $root := index . 0 -}}
{{- $calls := get (include "anneal.calls" $root | fromYaml) (index . 1) -}}
{{- $launches := has (index . 1) (splitList " " (include "anneal.launchers" $root)) -}}
{{- $made := dict -}}
{{- range $callee := concat $calls.pod $calls.jobs (ternary (list (index . 1)) list $launches) -}}
{{- if eq $callee "serving" -}}
{{- range $index, $model := $root.Values.serving.models -}}
{{- $address := printf "%s:50051" (include "anneal.objectName" (list $root (printf "serving-%s" $model.name))) -}}
{{- if eq $index 0 }}{{ $_ := set $made "serving" $address }}{{ end -}}
{{- $_ := set $made (printf "serving/%s" $model.model) $address -}}
{{- end -}}
{{- else -}}
{{- $_ := set $made $callee (printf "%s:50051" (include "anneal.objectName" (list $root $callee))) -}}
{{- end -}}
{{- end -}}
{{- toJson $made -}}
{{- end -}}
