{{- define "envoy-waf.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "envoy-waf.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "envoy-waf.labels" -}}
{{ include "envoy-waf.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{- define "envoy-waf.host" -}}
{{ include "envoy-waf.name" . }}.{{ .Release.Namespace }}.svc.cluster.local
{{- end }}

{{- /* What values.schema.json cannot say. */}}
{{- define "envoy-waf.check" -}}
{{- if and (gt (int .Values.workers) 1) (or .Values.istio.enabled .Values.envoyGateway.enabled) }}
{{- fail "workers: Istio and Envoy Gateway use one port of the service, so only one worker would serve: set replicas" }}
{{- end }}
{{- range $index := until (int .Values.workers) }}
{{- if eq (int $.Values.service.adminPort) (add (int $.Values.service.port) (mul 10 $index) | int) }}
{{- fail (printf "service.adminPort %d is the port of worker %d, too: choose another" (int $.Values.service.adminPort) $index) }}
{{- end }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.envoySelector) }}
{{- fail "networkPolicy.envoySelector is empty: all pods could ask; say which are Envoys, {matchLabels: {...}}" }}
{{- end }}
{{- if and .Values.istio.enabled (eq .Values.istio.context "SIDECAR_INBOUND") (not .Values.istio.selector) }}
{{- fail "istio.selector is empty: say which workloads get the filter, by their labels" }}
{{- end }}
{{- if and .Values.istio.enabled .Values.istio.failureModeAllow (eq .Values.istio.bodyMode "FULL_DUPLEX_STREAMED") }}
{{- fail "istio.failureModeAllow: without the sidecar, requests with bodies might still end in 500; set istio.bodyMode: BUFFERED" }}
{{- end }}
{{- if and .Values.envoyGateway.enabled .Values.envoyGateway.failOpen (eq .Values.envoyGateway.bodyMode "FullDuplexStreamed") }}
{{- fail "envoyGateway.failOpen: Envoy Gateway refuses it with bodies FullDuplexStreamed; set envoyGateway.bodyMode: Buffered" }}
{{- end }}
{{- end }}
