{{- define "member.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: spillway-member
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: spillway
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "member.accountNamespace" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Release.Namespace }}
{{- else -}}
{{ .Values.serviceAccount.namespace | default .Release.Namespace }}
{{- end -}}
{{- end -}}

{{- define "member.subjects" -}}
- kind: ServiceAccount
  name: {{ .Values.serviceAccount.name }}
  namespace: {{ include "member.accountNamespace" . }}
{{- end -}}
