{{/* The variables of the Job's container, and of the pod of `helm test`. */}}
{{- define "migrator.env" -}}
{{- $database := .Values.database -}}
{{- if eq $database.mountAs "env" }}
- name: MIGRATOR_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $database.existingSecret | quote }}
      key: {{ $database.secretKey | quote }}
{{- else if eq $database.mountAs "file" }}
- name: MIGRATOR_DATABASE_URL_FILE
  value: /etc/migrator/database/url
{{- end }}
{{- with $database.direct.existingSecret }}
- name: MIGRATOR_DIRECT_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: {{ $database.direct.secretKey | quote }}
{{- end }}
{{- include "migrator.tlsEnv" . }}
{{- include "migrator.settingsEnv" .Values.settings }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "migrator.settingsEnv" -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{- /* toString makes 1e+06 of a whole number that came as a float. */}}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $value = int64 $value }}{{ end }}
- name: {{ printf "MIGRATOR_%s" ($name | replace "-" "_" | upper) }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "migrator.tlsEnv" -}}
{{- $tls := .Values.database.tls -}}
{{- if or $tls.existingSecret $tls.existingConfigMap }}
- name: PGSSLMODE
  value: {{ $tls.sslMode | quote }}
- name: PGSSLROOTCERT
  value: {{ printf "%s/%s" $tls.mountPath $tls.caKey | quote }}
{{- with $tls.certKey }}
- name: PGSSLCERT
  value: {{ printf "%s/%s" $tls.mountPath . | quote }}
{{- end }}
{{- with $tls.keyKey }}
- name: PGSSLKEY
  value: {{ printf "%s/%s" $tls.mountPath . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Mounts of the files that the database's settings name; the volumes are below. */}}
{{- define "migrator.databaseMounts" -}}
{{- if eq .Values.database.mountAs "file" }}
- name: migrator-database
  mountPath: /etc/migrator/database
  readOnly: true
{{- end }}
{{- if or .Values.database.tls.existingSecret .Values.database.tls.existingConfigMap }}
- name: migrator-tls
  mountPath: {{ .Values.database.tls.mountPath | quote }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* Called with a dict: root, secret and key of the file with the URL. */}}
{{- define "migrator.databaseVolumes" -}}
{{- $tls := .root.Values.database.tls -}}
{{- if eq .root.Values.database.mountAs "file" }}
- name: migrator-database
  secret:
    secretName: {{ .secret | quote }}
    items:
      - key: {{ .key | quote }}
        path: url
{{- end }}
{{- if $tls.existingSecret }}
- name: migrator-tls
  secret:
    secretName: {{ $tls.existingSecret | quote }}
    {{- /* libpq refuses a private key that everybody may read */}}
    defaultMode: {{ ternary 288 292 (ne $tls.keyKey "") }}
{{- else if $tls.existingConfigMap }}
- name: migrator-tls
  configMap:
    name: {{ $tls.existingConfigMap | quote }}
{{- end }}
{{- end -}}

{{/* The pod's volumes. One of the user's takes the place of the chart's own for /tmp, and of no other. */}}
{{- define "migrator.volumes" -}}
{{- $tmp := false -}}
{{- range .Values.extraVolumes }}{{ if eq .name "tmp" }}{{ $tmp = true }}{{ end }}{{ end -}}
{{- if not $tmp }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.tmpSizeLimit | quote }}
{{- end }}
{{- include "migrator.databaseVolumes" (dict "root" . "secret" .Values.database.existingSecret "key" .Values.database.secretKey) }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
A container's mounts. Called with a dict: root, mounts (the user's), of (the value where they are), tmp (the volume for
/tmp; empty: none). What the user mounts at /tmp takes the place of that.
*/}}
{{- define "migrator.mounts" -}}
{{- $own := include "migrator.databaseMounts" .root | fromYamlArray -}}
{{- $paths := dict -}}
{{- range $own }}{{ $_ := set $paths (trimSuffix "/" .mountPath) true }}{{ end -}}
{{- $of := .of -}}
{{- range .mounts -}}
{{- $path := trimSuffix "/" .mountPath -}}
{{- if hasKey $paths $path -}}
{{- fail (printf "%s: something is mounted at %s already, by this chart or by an entry above. Choose another path" $of .mountPath) -}}
{{- end -}}
{{- $_ := set $paths $path true -}}
{{- end -}}
{{- $all := concat $own .mounts -}}
{{- if and .tmp (not (hasKey $paths "/tmp")) -}}
{{- $all = prepend $all (dict "name" .tmp "mountPath" "/tmp") -}}
{{- end -}}
{{- if $all }}{{ toYaml $all }}{{ end -}}
{{- end -}}

{{/* A container. Called with a dict: root, name, args. */}}
{{- define "migrator.container" -}}
{{- $root := .root -}}
name: {{ .name }}
image: {{ include "migrator.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- with $root.Values.command }}
command:
  {{- toYaml . | nindent 2 }}
{{- end }}
args:
  {{- toYaml .args | nindent 2 }}
{{- with include "migrator.env" $root | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
{{- with $root.Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- include "migrator.withoutNull" $root.Values.resources | nindent 2 }}
securityContext:
  {{- include "migrator.withoutNull" $root.Values.securityContext | nindent 2 }}
terminationMessagePath: /dev/termination-log
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  {{- include "migrator.mounts" (dict "of" "extraVolumeMounts" "tmp" "tmp" "root" $root "mounts" $root.Values.extraVolumeMounts) | nindent 2 }}
{{- end -}}

{{/* A pod's spec. Called with a dict: root, name, args. */}}
{{- define "migrator.podSpec" -}}
{{- $root := .root -}}
restartPolicy: Never
terminationGracePeriodSeconds: {{ int64 $root.Values.terminationGracePeriodSeconds }}
serviceAccountName: {{ include "migrator.serviceAccountName" $root | quote }}
automountServiceAccountToken: false
{{- /* A Service called "db" or "migrator" would otherwise set variables like DB_PORT. */}}
enableServiceLinks: false
securityContext:
  {{- include "migrator.withoutNull" $root.Values.podSecurityContext | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or $root.Values.initContainers $root.Values.sidecars }}
initContainers:
  {{- with $root.Values.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- range $root.Values.sidecars }}
  - {{ toYaml (merge (dict "restartPolicy" "Always") .) | nindent 4 | trim }}
  {{- end }}
{{- end }}
containers:
  - {{ include "migrator.container" . | nindent 4 | trim }}
volumes:
  {{- include "migrator.volumes" $root | trim | nindent 2 }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "hostAliases" "dnsConfig" }}
{{- with index $root.Values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $root.Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- end -}}
