{{- /* Helm reads numbers as floats, and writes those from a million on as 1e+06. */ -}}
{{- define "radir.setting" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}
