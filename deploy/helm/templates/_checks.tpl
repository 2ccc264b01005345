{{/* Combinations of values that cannot work, which a schema cannot say in plain words. */}}
{{- define "modeldb-sync.checks" -}}
{{- $kind := include "modeldb-sync.checkpointKind" . -}}
{{- $target := include "modeldb-sync.targetKind" . -}}
{{- $most := .Values.replicas | int -}}
{{- if .Values.autoscaling.enabled -}}
{{- $most = .Values.autoscaling.maxReplicas | int -}}
{{- if lt $most (int .Values.autoscaling.minReplicas) -}}
{{- fail "autoscaling.maxReplicas must not be below autoscaling.minReplicas." -}}
{{- end -}}
{{- if eq $target "modeldb-v1" -}}
{{- fail "autoscaling.enabled does not help with target.kind modeldb-v1: one daemon writes to a ModelDB V1, and the others stand by. Set replicas: 2 to have a standby." -}}
{{- end -}}
{{- if not (include "modeldb-sync.queue" .) -}}
{{- fail "autoscaling.enabled needs config.queue.url, the queue whose length KEDA reads." -}}
{{- end -}}
{{- end -}}
{{- if and (eq $kind "sqlite") (or (gt $most 1) .Values.autoscaling.enabled) -}}
{{- fail "With checkpoint.kind sqlite only one replica may run: each would have a checkpoint of its own and not know of the others, and ModelDB accepts two simultaneous creates of one name. Set replicas: 1 without autoscaling, or config.checkpoint.kind: dynamodb with config.checkpoint.table." -}}
{{- end -}}
{{- if eq $target "modeldb-v2" -}}
{{- $each := dig "target" "max_concurrency" 4 .Values.config | int -}}
{{- if gt (mul $most $each) 8 -}}
{{- fail (printf "%d replicas with up to %d concurrent requests each are more than 8 in all, which makes a ModelDB V2 no faster and may make it hang. Lower config.target.max_concurrency or the number of replicas." $most $each) -}}
{{- end -}}
{{- end -}}
{{- range tuple "password" "token" "developer_key" -}}
{{- if hasKey (dig "target" "auth" dict $.Values.config) . -}}
{{- fail (printf "config.target.auth.%s is a secret, and config becomes a ConfigMap. Put it into a Secret, as the entry target__auth__%s, and name that in existingSecret." . .) -}}
{{- end -}}
{{- end -}}
{{- if dig "target" "headers" dict .Values.config -}}
{{- fail "config.target.headers may hold secrets, and config becomes a ConfigMap. Put it into a Secret, as the entry target__headers, and name that in existingSecret." -}}
{{- end -}}
{{- end }}
