{{- define "pilothouse.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pilothouse.selector" -}}
app.kubernetes.io/name: pilothouse
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pilothouse.labels" -}}
{{ include "pilothouse.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.cluster }}
pilothouse.dev/cluster: {{ . }}
{{- end }}
{{- end -}}

{{/* A digest wins over a tag; what is pushed under `latest` may change under a running release. */}}
{{- define "pilothouse.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if eq $tag "latest" -}}
{{- fail "image.tag must not be `latest`: name a version, or a digest in image.digest" -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{- define "pilothouse.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
{{- with .Values.audit.group }}
supplementalGroups: [{{ . }}]
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "pilothouse.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "pilothouse.scheduling" -}}
{{- with .Values.scheduling.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.scheduling.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.scheduling.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "pilothouse.environment" -}}
- name: HOME
  value: {{ ternary "/git" "/tmp" (ne .Values.platform.gitHomeSecret "") }}
{{- with .Values.cluster }}
- name: PILOTHOUSE_CLUSTER
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The mounts that portal and worker share. */}}
{{- define "pilothouse.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- if include "pilothouse.platformMounted" . }}
- {name: platform, mountPath: /platform, readOnly: true}
{{- end }}
{{- if .Values.platform.gitHomeSecret }}
- {name: git, mountPath: /git, readOnly: true}
{{- end }}
{{- if .Values.database.existingSecret }}
- {name: database, mountPath: /database, readOnly: true}
{{- end }}
{{- range $index, $item := .Values.credentials }}
- {name: credentials-{{ $index }}, mountPath: {{ $item.mountPath }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "pilothouse.portalContainer" -}}
- name: portal
  image: {{ include "pilothouse.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - serve
    - --host=0.0.0.0
    - --port={{ .Values.portal.port }}
    - --data=/data
    # It has a container of its own.
    - --no-worker
    {{- if .withoutSigner }}
    # Its keys lie with the first pod.
    - --no-signer
    {{- end }}
    {{- if .Values.database.existingSecret }}
    - --database-file=/database/url
    {{- end }}
    {{- with include "pilothouse.platform" . }}
    - --platform={{ . }}
    {{- end }}
    {{- range .Values.trustedProxies }}
    - --trusted-proxy={{ . }}
    {{- end }}
    {{- if .Values.tls.existingSecret }}
    - --tls-cert=/tls/tls.crt
    - --tls-key=/tls/tls.key
    {{- end }}
    {{- range .Values.extraArgs.portal }}
    - {{ . | quote }}
    {{- end }}
  env:
    {{- include "pilothouse.environment" . | nindent 4 }}
  ports:
    - name: http
      containerPort: {{ .Values.portal.port }}
      protocol: TCP
  startupProbe:
    httpGet: {{- include "pilothouse.probe" (dict "path" "/healthz" "root" .) | nindent 6 }}
    periodSeconds: 2
    failureThreshold: 60
  livenessProbe:
    httpGet: {{- include "pilothouse.probe" (dict "path" "/healthz" "root" .) | nindent 6 }}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    httpGet: {{- include "pilothouse.probe" (dict "path" "/readyz" "root" .) | nindent 6 }}
    periodSeconds: 5
    timeoutSeconds: 5
  resources:
    {{- toYaml .Values.portal.resources | nindent 4 }}
  securityContext:
    {{- include "pilothouse.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- include "pilothouse.mounts" . | nindent 4 }}
    {{- if .Values.tls.existingSecret }}
    - {name: tls, mountPath: /tls, readOnly: true}
    {{- end }}
{{- end -}}

{{- define "pilothouse.probe" -}}
path: {{ .path }}
port: http
{{- if .root.Values.tls.existingSecret }}
scheme: HTTPS
{{- end }}
{{- end -}}

{{/* What `--platform` is given: a folder or a Git address. */}}
{{- define "pilothouse.platform" -}}
{{- if and .Values.platform.repository (include "pilothouse.platformMounted" .) -}}
{{- fail "platform.repository stands beside platform.existingClaim or platform.configMaps: the documents come from one of them" -}}
{{- end -}}
{{- if include "pilothouse.platformMounted" . -}}/platform{{- else -}}{{ .Values.platform.repository }}{{- end -}}
{{- end -}}

{{- define "pilothouse.platformMounted" -}}
{{- if or .Values.platform.existingClaim .Values.platform.configMaps -}}true{{- end -}}
{{- end -}}

{{/* The token of the service account is mounted into the worker alone: the portal never talks to the API server. */}}
{{- define "pilothouse.workerContainer" -}}
- name: worker
  image: {{ include "pilothouse.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - worker
    - --data=/data
    {{- if .Values.database.existingSecret }}
    - --database-file=/database/url
    {{- end }}
    {{- if .Values.worker.metricsPort }}
    - --metrics-host=0.0.0.0
    - --metrics-port={{ .Values.worker.metricsPort }}
    {{- end }}
    {{- with include "pilothouse.platform" . }}
    - --platform={{ . }}
    {{- end }}
    {{- range .Values.extraArgs.worker }}
    - {{ . | quote }}
    {{- end }}
  env:
    {{- include "pilothouse.environment" . | nindent 4 }}
  {{- if .Values.worker.metricsPort }}
  ports:
    - name: metrics
      containerPort: {{ .Values.worker.metricsPort }}
      protocol: TCP
  {{- end }}
  resources:
    {{- toYaml .Values.worker.resources | nindent 4 }}
  securityContext:
    {{- include "pilothouse.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- include "pilothouse.mounts" . | nindent 4 }}
    - {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
    {{- if .Values.audit.config }}
    - {name: audit-config, mountPath: /data/audit.yaml, subPath: audit.yaml, readOnly: true}
    {{- end }}
    {{- if include "pilothouse.auditFolder" . }}
    - {name: audit-logs, mountPath: {{ .Values.audit.mountPath }}, readOnly: true}
    {{- end }}
{{- end -}}

{{/* Whether the folder of the audit logs is mounted. */}}
{{- define "pilothouse.auditFolder" -}}
{{- if and .Values.audit.hostPath .Values.audit.existingClaim -}}
{{- fail "audit.hostPath stands beside audit.existingClaim: the logs lie in one of them" -}}
{{- end -}}
{{- if or .Values.audit.hostPath .Values.audit.existingClaim -}}true{{- end -}}
{{- end -}}

{{/* A mounted key of a ConfigMap stays as it was, so that another content is another pod. */}}
{{- define "pilothouse.podAnnotations" -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .Values.portal.port | quote }}
prometheus.io/path: /metrics
{{- with .Values.audit.config }}
pilothouse.dev/audit-config: {{ toJson . | sha256sum | trunc 16 | quote }}
{{- end }}
{{- end -}}

{{- define "pilothouse.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- if include "pilothouse.platformMounted" . }}
- name: platform
  {{- if .Values.platform.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.platform.existingClaim }}, readOnly: true}
  {{- else }}
  projected:
    sources:
      {{- range .Values.platform.configMaps }}
      - configMap: {name: {{ . }}}
      {{- end }}
  {{- end }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: tls
  secret: {secretName: {{ .Values.tls.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- if .Values.platform.gitHomeSecret }}
- name: git
  secret: {secretName: {{ .Values.platform.gitHomeSecret }}, defaultMode: 0440}
{{- end }}
{{- if .Values.database.existingSecret }}
- name: database
  secret: {secretName: {{ .Values.database.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- range $index, $item := .Values.credentials }}
- name: credentials-{{ $index }}
  secret: {secretName: {{ $item.secret }}, defaultMode: 0440}
{{- end }}
{{- if .Values.audit.config }}
- name: audit-config
  configMap: {name: {{ include "pilothouse.fullname" . }}-audit}
{{- end }}
{{- if include "pilothouse.auditFolder" . }}
- name: audit-logs
  {{- if .Values.audit.hostPath }}
  hostPath: {path: {{ .Values.audit.hostPath }}, type: Directory}
  {{- else }}
  persistentVolumeClaim: {claimName: {{ .Values.audit.existingClaim }}, readOnly: true}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Whether there are pods besides the first one; says what they need. */}}
{{- define "pilothouse.more" -}}
{{- if gt (int .Values.portal.replicas) 1 -}}
{{- if not .Values.database.existingSecret -}}
{{- fail "portal.replicas above 1 needs a database that they share: set database.existingSecret" -}}
{{- end -}}
{{- if not (include "pilothouse.platform" .) -}}
{{- fail "portal.replicas above 1 needs documents that each pod can read: set platform.repository, configMaps or existingClaim" -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{- define "pilothouse.tokenVolume" -}}
- name: api-token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items:
            - path: namespace
              fieldRef: {fieldPath: metadata.namespace}
{{- end -}}
