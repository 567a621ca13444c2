{{- define "logstream.name" -}}
{{- default .Release.Name .Values.nameOverride }}
{{- end }}

{{- define "logstream.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
