{{- define "radir.labels" -}}
app.kubernetes.io/name: radir-pacs
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "radir.selector" -}}
app.kubernetes.io/name: radir-pacs
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "radir.claim" -}}
{{ .Values.home.existingClaim | default (printf "%s-home" .Release.Name) }}
{{- end }}

{{- define "radir.ports" -}}
listener: 11112
hl7: 2575
web: 8042
{{- end }}
