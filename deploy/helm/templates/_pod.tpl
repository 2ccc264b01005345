{{/* The Pod, the same in a StatefulSet and in a Deployment. */}}
{{- define "modeldb-sync.pod" -}}
metadata:
  labels:
    {{- include "modeldb-sync.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed configuration is a new Pod: the daemon reads its configuration at the start only.
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "modeldb-sync.serviceAccount" . }}
  automountServiceAccountToken: false
  # Else a Service called modeldb-sync would set MODELDB_SYNC_… variables, which look like the daemon's own.
  enableServiceLinks: false
  # shutdown.grace_seconds plus a margin.
  terminationGracePeriodSeconds: {{ include "modeldb-sync.gracePeriod" . }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $ofThisRelease := dict "matchLabels" (include "modeldb-sync.selector" $ | fromYaml) }}
    - {{ hasKey . "labelSelector" | ternary . (set (deepCopy .) "labelSelector" $ofThisRelease) | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: daemon
      image: {{ include "modeldb-sync.image" . | quote }}
      {{- with .Values.image.pullPolicy }}
      imagePullPolicy: {{ . }}
      {{- end }}
      # Secrets of the configuration, by the names of secret files: entry target__auth__token is the key target.auth.token.
      # As variables and not as a volume on /run/secrets, because EKS puts its token for AWS below that directory, and no
      # container starts when a mount has to be made inside a (read-only) Secret volume.
      envFrom:
        - prefix: MODELDB_SYNC_
          secretRef:
            name: {{ .Values.existingSecret | default (include "modeldb-sync.name" .) }}
            optional: {{ not .Values.existingSecret }}
      {{- with .Values.extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: metrics
          containerPort: {{ include "modeldb-sync.port" . }}
      # The port opens once the checkpoint is open; a large journal of a killed daemon takes a while.
      startupProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 60
      # Fails only if a loop of the daemon hangs, never because of an outage elsewhere.
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 15
        timeoutSeconds: 5
        failureThreshold: 4
      # The daemon serves no traffic; readiness is what `kubectl rollout status` and `kubectl get pods` show.
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 1
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        {{- if eq (include "modeldb-sync.checkpointKind" .) "sqlite" }}
        - name: checkpoint
          mountPath: {{ include "modeldb-sync.checkpointFolder" . }}
        {{- end }}
        - name: config
          mountPath: /etc/modeldb-sync
          readOnly: true
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "modeldb-sync.name" . }}
    {{- if and (eq (include "modeldb-sync.checkpointKind" .) "sqlite") (not .Values.persistence.enabled) }}
    - name: checkpoint
      emptyDir: {}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
