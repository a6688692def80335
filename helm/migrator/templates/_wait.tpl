{{/*
The init container of an application's pod: it ends when the database is at this image's head. With this chart as a
dependency of the application's:

  initContainers:
    {{- include "migrator.waitForHead" .Subcharts.migrator | nindent 4 }}

It asks the database, and needs nothing but SELECT on the version table. Every wait has jitter of its own.
*/}}
{{- define "migrator.waitForHead" -}}
{{- include "migrator.validateImage" . -}}
{{- include "migrator.validateDatabase" . -}}
{{- $wait := .Values.waitForHead -}}
{{- $database := .Values.database -}}
{{- $secret := include "migrator.waitSecret" . | fromYaml -}}
- name: wait-for-migrations
  image: {{ include "migrator.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- with .Values.command }}
  command:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  args: [wait, --for, head]
  env:
    {{- if eq $database.mountAs "env" }}
    - name: MIGRATOR_DATABASE_URL
      valueFrom:
        secretKeyRef:
          name: {{ $secret.name | quote }}
          key: {{ $secret.key | quote }}
    {{- else if eq $database.mountAs "file" }}
    - name: MIGRATOR_DATABASE_URL_FILE
      value: /etc/migrator/database/url
    {{- end }}
    {{- with include "migrator.tlsEnv" . | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- /* What env.py needs is the same; how long to wait is not. */}}
    {{- $settings := omit .Values.settings "deadline" "wait-timeout" "allow-ahead" }}
    {{- $_ := set $settings "wait-timeout" $wait.timeout }}
    {{- if $wait.allowAhead }}
    {{- $_ := set $settings "allow-ahead" true }}
    {{- end }}
    {{- include "migrator.settingsEnv" $settings | trim | nindent 4 }}
    {{- with $wait.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources:
    {{- include "migrator.withoutNull" $wait.resources | nindent 4 }}
  securityContext:
    runAsNonRoot: true
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  terminationMessagePath: /dev/termination-log
  terminationMessagePolicy: FallbackToLogsOnError
  {{- $mounts := include "migrator.databaseMounts" . | trim }}
  {{- if or $mounts $wait.extraVolumeMounts }}
  volumeMounts:
    {{- with $mounts }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $wait.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* Volumes of that init container: needed with database.mountAs=file and with database.tls only. */}}
{{- define "migrator.waitForHeadVolumes" -}}
{{- $secret := include "migrator.waitSecret" . | fromYaml -}}
{{- include "migrator.databaseVolumes" (dict "root" . "secret" $secret.name "key" $secret.key) | trim -}}
{{- end -}}

{{- define "migrator.waitSecret" -}}
{{- $own := .Values.waitForHead.database -}}
{{- if $own.existingSecret -}}
{{- toYaml (dict "name" (toString $own.existingSecret) "key" $own.secretKey) -}}
{{- else -}}
{{- toYaml (dict "name" .Values.database.existingSecret "key" .Values.database.secretKey) -}}
{{- end -}}
{{- end -}}
