{{/*
How to read the log, and what each exit code asks for. Helm shows the notes of the chart that is installed, not those of its
dependencies; in the NOTES.txt of a chart that depends on this one:

  {{ include "migrator.notes" .Subcharts.migrator }}
*/}}
{{- define "migrator.notes" -}}
{{- include "migrator.prepare" . -}}
{{- $job := include "migrator.fullname" . -}}
{{- if eq .Values.mode "helm" -}}
Each install and upgrade runs the migrations before everything else of the release, as the Job {{ $job }}:

  kubectl --namespace {{ .Release.Namespace }} logs job/{{ $job }}
  kubectl --namespace {{ .Release.Namespace }} describe pods --selector batch.kubernetes.io/job-name={{ $job }}

The Job stays until the next run replaces it, after `helm uninstall` as well.
A Secret or a database that this release itself makes does not exist yet when a hook runs: make them first.
{{- else if eq .Values.mode "argocd" -}}
Each sync runs the migrations before everything else, as the PreSync hook {{ $job }}:

  kubectl --namespace {{ .Release.Namespace }} logs job/{{ $job }}
{{- else -}}
The migrations run as a Job of this release, whose name changes with its image and values:

  kubectl --namespace {{ .Release.Namespace }} logs --selector app.kubernetes.io/instance={{ .Release.Name }},app.kubernetes.io/name={{ include "migrator.name" . }} --tail=-1

The application's pods wait for them with the init container `migrator.waitForHead`.
{{- end }}

A rollback undoes no migration: the database stays where the newest image brought it.
{{- $older := ternary "accepts that, as settings.allow-ahead says" "ends with exit 23" (eq true (index .Values.settings "allow-ahead")) }}
{{- if eq .Values.mode "argocd" }}
The sync of an older image runs its hook, which {{ $older }}.
{{- else if eq .Values.mode "job" }}
`helm rollback` to this revision makes its Job anew, which {{ $older }} if the database is newer than its image.
{{- else if .Values.helm.onRollback }}
`helm rollback` to this revision runs its hook first, which {{ $older }} if the database is newer than its image.
{{- else }}
`helm rollback` to this revision runs no migrations: the Job above stays that of the last install or upgrade.
{{- end }}

What the exit code asks for (`kubectl describe` shows it with the reason and the next step):
{{ range (.Files.Get "files/exit-codes.yaml" | fromYaml).codes }}
  {{ printf "%3d" (int64 .code) }}  {{ printf "%-14s" (get (dict "Complete" "done" "FailJob" "a person looks" "Count" "tried again") .action) }}  {{ .meaning }}
{{- end }}
{{- end -}}
