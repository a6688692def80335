{{/*
The init container of an application's pod: it ends when the database is at this image's head. With this chart as a
dependency of the application's:

  initContainers:
    {{- include "migrator.waitForHead" .Subcharts.migrator | nindent 4 }}

It asks the database, and needs nothing but SELECT on the version table. Every wait has jitter of its own.
*/}}
{{- define "migrator.waitForHead" -}}
{{- include "migrator.prepare" . -}}
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
    {{- include "migrator.withoutNull" $wait.securityContext | nindent 4 }}
  terminationMessagePath: /dev/termination-log
  terminationMessagePolicy: FallbackToLogsOnError
  {{- $tmp := ternary "migrator-tmp" "" (ne $wait.tmpSizeLimit "") }}
  {{- with include "migrator.mounts" (dict "of" "waitForHead.extraVolumeMounts" "tmp" $tmp "root" . "mounts" $wait.extraVolumeMounts) }}
  volumeMounts:
    {{- . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Volumes of that init container: needed with database.mountAs=file, database.tls and waitForHead.tmpSizeLimit only. */}}
{{- define "migrator.waitForHeadVolumes" -}}
{{- include "migrator.prepare" . -}}
{{- $secret := include "migrator.waitSecret" . | fromYaml -}}
{{- $volumes := include "migrator.databaseVolumes" (dict "root" . "secret" $secret.name "key" $secret.key) | fromYamlArray -}}
{{- /* A name of its own: the application's pod may have a volume called tmp. */ -}}
{{- with .Values.waitForHead.tmpSizeLimit -}}
{{- $volumes = append $volumes (dict "name" "migrator-tmp" "emptyDir" (dict "sizeLimit" .)) -}}
{{- end -}}
{{- if $volumes }}{{ toYaml $volumes }}{{ end -}}
{{- end -}}

{{- define "migrator.waitSecret" -}}
{{- $own := .Values.waitForHead.database -}}
{{- if $own.existingSecret -}}
{{- toYaml (dict "name" (toString $own.existingSecret) "key" $own.secretKey) -}}
{{- else -}}
{{- toYaml (dict "name" .Values.database.existingSecret "key" .Values.database.secretKey) -}}
{{- end -}}
{{- end -}}
