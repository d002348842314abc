{{/* Who may connect to whom: rules of NetworkPolicies, each as items of an ingress or egress list. */}}

{{/* Labels of the pods of a service's jobs, given (root, service): what its launcher gives them. */}}
{{- define "anneal.jobLabels" -}}
anneal.dev/owner: {{ include "anneal.objectName" . }}
{{- end -}}

{{/* Labels of the release's pods of one component, given (root, component). */}}
{{- define "anneal.componentLabels" -}}
{{ include "anneal.releaseLabels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Ports, given (protocols, ports). */}}
{{- define "anneal.ports" -}}
{{- $ports := index . 1 -}}
ports:
{{- range $protocol := index . 0 }}
{{- range $ports }}
  - {protocol: {{ $protocol }}, port: {{ . }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* From these peers to these ports, given (peers, ports); nothing without peers. */}}
{{- define "anneal.from" -}}
{{- if index . 0 }}
- from:
    {{- toYaml (index . 0) | nindent 4 }}
  {{- include "anneal.ports" (list (list "TCP") (index . 1)) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* To these peers at these ports, given (peers, ports); anywhere without peers. */}}
{{- define "anneal.to" -}}
{{- $protocols := ternary (list "UDP" "TCP") (list "TCP") (gt (len .) 2) }}
- {{ include "anneal.ports" (list $protocols (index . 1)) | indent 2 | trim }}
  {{- with index . 0 }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "anneal.toDns" -}}
{{- include "anneal.to" (list .Values.networkPolicy.dns.to .Values.networkPolicy.dns.ports "udp") -}}
{{- end -}}

{{/* To something outside the release, given (root, its name in `networkPolicy`). */}}
{{- define "anneal.toOutside" -}}
{{- $place := get (index . 0).Values.networkPolicy (index . 1) -}}
{{- include "anneal.to" (list $place.to $place.ports) -}}
{{- end -}}

{{/* To gRPC of services, given (root, services). */}}
{{- define "anneal.toServices" -}}
{{- $root := index . 0 -}}
{{- range index . 1 -}}
{{- $labels := include "anneal.componentLabels" (list $root .) | fromYaml -}}
{{- include "anneal.to" (list (list (dict "podSelector" (dict "matchLabels" $labels))) (list 50051)) -}}
{{- end -}}
{{- end -}}

{{/* Peers that call a service's gRPC, as JSON, given (root, service). */}}
{{- define "anneal.callers" -}}
{{- $root := index . 0 -}}
{{- $callee := index . 1 -}}
{{- $peers := list -}}
{{- if eq $root.Values.mode "distributed" -}}
{{- range $caller, $calls := include "anneal.calls" $root | fromYaml -}}
{{- if has $callee $calls.pod -}}
{{- $labels := include "anneal.componentLabels" (list $root $caller) | fromYaml -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" $labels)) -}}
{{- end -}}
{{- if and (has $caller (splitList " " (include "anneal.launchers" $root))) (or (has $callee $calls.jobs) (eq $callee $caller)) -}}
{{- $labels := include "anneal.jobLabels" (list $root $caller) | fromYaml -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" $labels)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $root.Values.test.enabled (has $callee (list "registry" "ingestion" "serving" "standalone")) -}}
{{- $labels := include "anneal.componentLabels" (list $root "test") | fromYaml -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" $labels)) -}}
{{- end -}}
{{- concat $peers $root.Values.networkPolicy.grpcClients | toJson -}}
{{- end -}}

{{/* Peers that call the gateway's HTTP, as JSON: apps, teachers' jobs, the test. */}}
{{- define "anneal.httpCallers" -}}
{{- $peers := list -}}
{{- if eq .Values.mode "distributed" -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" (include "anneal.jobLabels" (list . "synthesis") | fromYaml))) -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" (include "anneal.jobLabels" (list . "curation") | fromYaml))) -}}
{{- end -}}
{{- if .Values.test.enabled -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" (include "anneal.componentLabels" (list . "test") | fromYaml))) -}}
{{- end -}}
{{- concat $peers .Values.networkPolicy.gatewayClients | toJson -}}
{{- end -}}
