{{/* Name of everything: the release's. A StatefulSet's Pods carry it in a label together with a hash, hence at most 52 characters. */}}
{{- define "modeldb-sync.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "modeldb-sync.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "modeldb-sync.labels" -}}
{{ include "modeldb-sync.selector" . }}
app.kubernetes.io/part-of: modeldb-sync
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "modeldb-sync.metadata" -}}
name: {{ include "modeldb-sync.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "modeldb-sync.labels" . | nindent 2 }}
{{- end }}

{{- define "modeldb-sync.image" -}}
{{- .Values.image.repository -}}:{{- .Values.image.tag | default .Chart.AppVersion -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{- define "modeldb-sync.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "modeldb-sync.name" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{/* What follows reads the daemon's configuration, with the daemon's own defaults. */}}

{{- define "modeldb-sync.checkpointKind" -}}
{{- dig "checkpoint" "kind" "sqlite" .Values.config -}}
{{- end }}

{{- define "modeldb-sync.checkpointFolder" -}}
{{- dig "checkpoint" "path" "/var/lib/modeldb-sync/checkpoint.db" .Values.config | dir -}}
{{- end }}

{{- define "modeldb-sync.port" -}}
{{- dig "http" "port" 9090 .Values.config | int -}}
{{- end }}

{{- define "modeldb-sync.targetKind" -}}
{{- dig "target" "kind" "modeldb-v2" .Values.config -}}
{{- end }}

{{/* Time for a graceful shutdown, plus a margin. */}}
{{- define "modeldb-sync.gracePeriod" -}}
{{- dig "shutdown" "grace_seconds" 25 .Values.config | int | add 5 -}}
{{- end }}

{{/* Port of the target; empty if the configuration does not say it. */}}
{{- define "modeldb-sync.targetPort" -}}
{{- $target := .Values.config.target | default dict -}}
{{- $address := $target.url | default $target.tracking_uri | default "" -}}
{{- if eq (include "modeldb-sync.targetKind" .) "modeldb-v1" -}}
{{- $target.port | default 6543 | int -}}
{{- else if regexMatch "^https?://" $address -}}
{{- $parts := urlParse $address -}}
{{- regexFind ":[0-9]+$" $parts.host | trimPrefix ":" | default (ternary "443" "80" (eq $parts.scheme "https")) -}}
{{- end -}}
{{- end }}

{{- define "modeldb-sync.queue" -}}
{{- dig "queue" "url" "" .Values.config -}}
{{- end }}

{{/* Region of the queue: the configuration's, else that in the queue's URL. */}}
{{- define "modeldb-sync.region" -}}
{{- dig "aws" "region" "" .Values.config | default (regexReplaceAll "^https://sqs\\.([a-z0-9-]+)\\..*$" (include "modeldb-sync.queue" .) "${1}") -}}
{{- end }}
