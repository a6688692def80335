{{/* What a schema cannot say: refused with the values' names and what to do. */}}
{{- define "migrator.validate" -}}
{{- if not (has .Values.mode (list "helm" "argocd" "job")) -}}
{{- fail "mode is needed: helm, argocd or job" -}}
{{- end -}}
{{- include "migrator.validateImage" . -}}
{{- include "migrator.validateDatabase" . -}}
{{- include "migrator.validateTimes" . -}}
{{- include "migrator.validateEnv" . -}}
{{- if eq .Values.mode "helm" }}{{ include "migrator.validateSecret" . }}{{ end -}}
{{- end -}}

{{- define "migrator.validateImage" -}}
{{- $image := .Values.image -}}
{{- if not $image.repository -}}
{{- fail "image.repository is needed: your application's image with migrator and its revisions in it" -}}
{{- end -}}
{{- if and (not $image.digest) (not $image.tag) -}}
{{- fail "image.digest is needed: sha256:…, as the build or `docker buildx imagetools inspect` printed it" -}}
{{- end -}}
{{- if and (not $image.digest) (not $image.allowTag) -}}
{{- fail (printf "image.tag %s without image.digest: a tag can be moved, so the Job and the application could run different revisions. Set image.digest, or image.allowTag=true" $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "migrator.validateDatabase" -}}
{{- $database := .Values.database -}}
{{- if and (ne $database.mountAs "none") (not $database.existingSecret) -}}
{{- fail "database.existingSecret is needed: the name of a Secret with the database's URL under database.secretKey (or database.mountAs=none, where the database is named otherwise)" -}}
{{- end -}}
{{- if and $database.tls.existingSecret $database.tls.existingConfigMap -}}
{{- fail "database.tls.existingSecret and database.tls.existingConfigMap exclude each other" -}}
{{- end -}}
{{- if ne (empty $database.tls.certKey) (empty $database.tls.keyKey) -}}
{{- fail "database.tls.certKey and database.tls.keyKey belong together: set both or none" -}}
{{- end -}}
{{- end -}}

{{/* Each limit ends before the one around it, so that the innermost, which can say why, speaks first. */}}
{{- define "migrator.validateTimes" -}}
{{- $grace := int64 .Values.terminationGracePeriodSeconds -}}
{{- $job := int64 .Values.activeDeadlineSeconds -}}
{{- if kindIs "invalid" .Values.settings.deadline -}}
{{- fail "settings.deadline is needed: without it the Job's activeDeadlineSeconds kills a run that could have said what it was doing" -}}
{{- end -}}
{{- $run := int64 .Values.settings.deadline -}}
{{- if gt (add $run $grace) $job -}}
{{- fail (printf "settings.deadline (%d) + terminationGracePeriodSeconds (%d) must not be more than activeDeadlineSeconds (%d): the run has to end, and to roll back, before Kubernetes ends the Job" $run $grace $job) -}}
{{- end -}}
{{- $helm := int64 .Values.helm.timeoutSeconds -}}
{{- if and (eq .Values.mode "helm") (gt (add $job $grace) $helm) -}}
{{- fail (printf "activeDeadlineSeconds (%d) + terminationGracePeriodSeconds (%d) must not be more than helm.timeoutSeconds (%d): Helm would give up while the Job still runs. Give helm a longer --timeout and say so in helm.timeoutSeconds" $job $grace $helm) -}}
{{- end -}}
{{- end -}}

{{- define "migrator.validateEnv" -}}
{{- $names := dict -}}
{{- range include "migrator.env" . | fromYamlArray -}}
{{- if hasKey $names .name -}}
{{- fail (printf "the variable %s is set twice: extraEnv repeats what settings, database or extraEnv already say" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- range concat .Values.extraEnv .Values.waitForHead.extraEnv -}}
{{- if and .value (regexMatch "(DATABASE_URL|PASSWORD)$" .name) -}}
{{- fail (printf "extraEnv: %s in plain text is readable for everybody who may read Jobs. Use valueFrom.secretKeyRef" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A hook runs before the objects of its release exist, and on an upgrade while they are still the old ones. */}}
{{- define "migrator.validateSecret" -}}
{{- $database := .Values.database -}}
{{- if and $database.checkSecret (ne $database.mountAs "none") -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace $database.existingSecret -}}
{{- if $secret -}}
{{- if eq (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $secret) .Release.Name -}}
{{- fail (printf "the Secret %s belongs to this release: a pre-install hook runs before it exists, a pre-upgrade hook reads the old one. Make it outside of the release, or as a hook with a lower weight, or set mode=job (or database.checkSecret=false)" $database.existingSecret) -}}
{{- end -}}
{{- /* Without a connection to a cluster nothing is found, not even what every namespace has. */ -}}
{{- else if lookup "v1" "ConfigMap" .Release.Namespace "kube-root-ca.crt" -}}
{{- fail (printf "there is no Secret %s in the namespace %s: a hook runs before everything else of the release, so a Secret that the release makes comes too late. Make it first (or set database.checkSecret=false)" $database.existingSecret .Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
