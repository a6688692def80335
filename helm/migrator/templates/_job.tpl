{{/*
The Job's spec. Which exit codes fail it at once is in files/exit-codes.yaml, made from migrator/errors.py.
An eviction (DisruptionTarget) is looked at first: it ends the run with 143, and is nobody's failure.
*/}}
{{- define "migrator.jobSpec" -}}
{{- $codes := .Files.Get "files/exit-codes.yaml" | fromYaml -}}
backoffLimit: {{ int64 .Values.backoffLimit }}
activeDeadlineSeconds: {{ int64 .Values.activeDeadlineSeconds }}
{{- if not (kindIs "invalid" .Values.ttlSecondsAfterFinished) }}
ttlSecondsAfterFinished: {{ int64 .Values.ttlSecondsAfterFinished }}
{{- end }}
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    - action: FailJob
      onExitCodes:
        containerName: migrate
        operator: In
        values:
          {{- range $codes.codes }}
          {{- if eq .action "FailJob" }}
          - {{ int64 .code }}
          {{- end }}
          {{- end }}
template:
  metadata:
    labels:
      {{- include "migrator.withoutNull" (merge (include "migrator.selectorLabels" . | fromYaml) .Values.podLabels .Values.commonLabels) | nindent 6 }}
    {{- with include "migrator.withoutNull" (merge (dict) .Values.podAnnotations .Values.commonAnnotations) }}
    {{- if ne . "{}" }}
    annotations:
      {{- . | nindent 6 }}
    {{- end }}
    {{- end }}
  spec:
    {{- include "migrator.podSpec" (dict "root" . "name" "migrate" "args" .Values.args) | nindent 4 }}
{{- end -}}
