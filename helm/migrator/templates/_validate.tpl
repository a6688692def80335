{{/*
Before anything else in each file: a value that was set to null is empty where that means something, and refused elsewhere.
Helm takes a null away together with the default, so that a schema sees nothing of it, and a template would see no value.
*/}}
{{- define "migrator.prepare" -}}
{{- $values := .Values -}}
{{- range $row := (.Files.Get "files/nulls.yaml" | fromYaml).values -}}
{{- $parent := $values -}}
{{- range initial $row.path }}{{ $parent = index $parent . }}{{ end -}}
{{- $name := last $row.path -}}
{{- if kindIs "invalid" (index $parent $name) -}}
{{- if hasKey $row "empty" -}}
{{- $_ := set $parent $name $row.empty -}}
{{- else if hasKey $row "default" -}}
{{- fail (printf "%s is null: leave it out for the default (%s), or give a value; after --reuse-values, which knows no new defaults, use --reset-then-reuse-values" (join "." $row.path) $row.default) -}}
{{- else -}}
{{- fail (printf "%s is null: leave it out for the defaults, or write its values below it" (join "." $row.path)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a schema cannot say: refused with the values' names and what to do. */}}
{{- define "migrator.validate" -}}
{{- include "migrator.validateImage" . -}}
{{- include "migrator.validateDatabase" . -}}
{{- include "migrator.validateTimes" . -}}
{{- include "migrator.validateEnv" . -}}
{{- include "migrator.validatePlainText" . -}}
{{- include "migrator.validateNames" . -}}
{{- if eq .Values.mode "helm" }}{{ include "migrator.validateSecret" . }}{{ end -}}
{{- end -}}

{{- define "migrator.validateImage" -}}
{{- $image := .Values.image -}}
{{- if not $image.repository -}}
{{- fail "image.repository is needed: your application's image with migrator and its revisions in it" -}}
{{- end -}}
{{- /* What stands before an @ may be a password. */ -}}
{{- $shown := regexReplaceAll `(?s)^.*@` $image.repository "***@" -}}
{{- if regexMatch `@.*/` $image.repository -}}
{{- fail (printf "image.repository has credentials in it (%s): put them into a Secret of the type kubernetes.io/dockerconfigjson and name that in imagePullSecrets" $shown) -}}
{{- end -}}
{{- if regexMatch "@|:[^/]*$" $image.repository -}}
{{- fail (printf "image.repository %s has a tag or a digest: write the name alone, the digest into image.digest (sha256:…) and the tag, if it is to be seen, into image.tag" $shown) -}}
{{- end -}}
{{- if not (regexMatch `^(([a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*$` $image.repository) -}}
{{- fail (printf "image.repository %s is no name of an image: write it like registry.example.com/team/shop, without https:// and, after the registry, in small letters" $shown) -}}
{{- end -}}
{{- if eq $image.tag "latest" -}}
{{- fail "image.tag latest is another image every day: write the digest of the one that was tested into image.digest (sha256:…), and its version into image.tag or nothing" -}}
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
{{- if $database.url -}}
{{- fail "database.url is no value: whoever may read the Job or this release would read it. Make a Secret (kubectl create secret generic NAME --from-literal=url=…) and name it in database.existingSecret" -}}
{{- end -}}
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
{{- $deadline := .Values.settings.deadline -}}
{{- $run := include "migrator.seconds" (dict "name" "settings.deadline" "value" $deadline) | int64 -}}
{{- if gt (add $run $grace) $job -}}
{{- if kindIs "float64" $deadline }}{{ $deadline = $run }}{{ end -}}
{{- fail (printf "settings.deadline (%v) + terminationGracePeriodSeconds (%d) must not be more than activeDeadlineSeconds (%d): the run has to end, and to roll back, before Kubernetes ends the Job" $deadline $grace $job) -}}
{{- end -}}
{{- $helm := int64 .Values.helm.timeoutSeconds -}}
{{- if and (eq .Values.mode "helm") (gt (add $job $grace) $helm) -}}
{{- fail (printf "activeDeadlineSeconds (%d) + terminationGracePeriodSeconds (%d) must not be more than helm.timeoutSeconds (%d): Helm would give up while the Job still runs. Give helm a longer --timeout and say so in helm.timeoutSeconds" $job $grace $helm) -}}
{{- end -}}
{{- end -}}

{{/*
Whole seconds, rounded up, of a duration as `migrator` reads it: 210, 1.5, 500ms, 3m30s. Called with a dict: name, value.
*/}}
{{- define "migrator.seconds" -}}
{{- $seconds := .value -}}
{{- if kindIs "string" .value -}}
{{- $text := .value | trim | lower -}}
{{- $number := `([0-9]+(?:\.[0-9]+)?|\.[0-9]+)` -}}
{{- if regexMatch (printf `^%s$` $number) $text -}}
{{- $seconds = float64 $text -}}
{{- else -}}
{{- $units := printf `^(?:%[1]s\s*h\s*)?(?:%[1]s\s*m\s*)?(?:%[1]s\s*s\s*)?(?:%[1]s\s*ms)?$` $number -}}
{{- if or (not $text) (not (regexMatch $units $text)) -}}
{{- fail (printf "%s: %q is not a duration. Write seconds (210) or numbers with units (500ms, 90s, 3m30s, 1h)" .name .value) -}}
{{- end -}}
{{- $seconds = 0 -}}
{{- range regexFindAll (printf `%s\s*(?:ms|h|m|s)` $number) $text -1 -}}
{{- $unit := get (dict "h" 3600 "m" 60 "s" 1 "ms" 0.001) (regexFind `[a-z]+$` .) -}}
{{- $seconds = addf $seconds (mulf (regexFind $number . | float64) $unit) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if le (float64 $seconds) 0.0 -}}
{{- fail (printf "%s must be more than 0" .name) -}}
{{- end -}}
{{- ceil $seconds | int64 -}}
{{- end -}}

{{/* A variable's value that only names a password, for Kubernetes (`$(NAME)`) or whoever else fills it in, is taken. */}}
{{- define "migrator.validateEnv" -}}
{{- $named := `\$\(|\$\{|\{\{|^(>>)?(vault|bao|arn:aws|gcp:secretmanager|azure:keyvault):|^(op|ref\+\w+|berglas|sm)://|@azurekeyvault$` -}}
{{- $answer := `(?i)^(yes|no|true|false)$` -}}
{{- $names := dict -}}
{{- range include "migrator.env" . | fromYamlArray -}}
{{- if hasKey $names .name -}}
{{- fail (printf "the variable %s is set twice: extraEnv repeats what settings, database or extraEnv already say" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- range $of, $variables := dict "extraEnv" .Values.extraEnv "waitForHead.extraEnv" .Values.waitForHead.extraEnv -}}
{{- range $variables -}}
{{- if and .value (regexMatch `(?i)(PASSWORD|PASSWD|PASSPHRASE)$|^MYSQL_PWD$` .name) (not (regexMatch (printf `%s|%s` $named $answer) .value)) -}}
{{- fail (printf "%s: %s in plain text is readable for everybody who may read Jobs. Put it into a Secret and use valueFrom.secretKeyRef" $of .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
A password in a URL, wherever it stands; not one that Kubernetes, a shell or a template of something else fills in:
`$(PASSWORD)`, `${PASSWORD}`, `$PASSWORD`, `{{.Data.password}}`, nor a mask. Where a port stands there, the @ behind it is no
URL's. In doubt it is taken. What a parent chart says to all of its charts is no matter of this one.
*/}}
{{- define "migrator.validatePlainText" -}}
{{- $anywhere := `://[^\s/:@"\[]*:((?:[^\s/@"\\]|\\.)+)@` -}}
{{- $database := `(?i)(?:postgres|mysql|mariadb)[a-z0-9+]*://[^\s/:@"\[]*:((?:[^\s@"\\]|\\.)+)@` -}}
{{- $parameter := `(?i)(?:[?&]|\\u0026)passw(?:or)?d=([^\s&"\\]+)` -}}
{{- $filled := `\$\(|\$\{|\{\{|^(\$\w+)+([/?,;'\\].*)?$|^\*+$|^\\u003c.*\\u003e$|^[0-9]{1,5}[/?,;'\\]` -}}
{{- range $name, $value := omit .Values "global" -}}
{{- range $url, $accepted := dict $anywhere (printf `%s|^[0-9]{1,5}$` $filled) $database $filled $parameter $filled -}}
{{- range regexFindAll $url (toJson $value) -1 -}}
{{- if not (regexMatch $accepted (regexReplaceAll $url . "${1}")) -}}
{{- fail (printf "%s has a URL with a password in plain text, readable for everybody who may read Jobs or this release. Put the URL into a Secret and name it in database.existingSecret, or in extraEnv by valueFrom.secretKeyRef" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Names that Kubernetes would refuse only when the Job makes its pod, or the hook its Job. */}}
{{- define "migrator.validateNames" -}}
{{- $fullname := include "migrator.fullname" . -}}
{{- $label := `[a-z0-9]([-a-z0-9]*[a-z0-9])?` -}}
{{- if not (regexMatch (printf `^%[1]s(\.%[1]s)*$` $label) $fullname) -}}
{{- $advice := ternary "" ", or set fullnameOverride" (not (empty .Values.fullnameOverride)) -}}
{{- fail (printf "%s: %s is no name of a Job: write small letters, digits, dashes and single dots%s" (ternary "nameOverride" "fullnameOverride" (empty .Values.fullnameOverride)) $fullname $advice) -}}
{{- end -}}
{{- $containers := dict "migrate" "this chart" "status" "this chart" -}}
{{- range $of := list "initContainers" "sidecars" -}}
{{- range index $.Values $of -}}
{{- if hasKey $containers .name -}}
{{- fail (printf "%s: %s is the name of a container of %s already. Choose another one" $of .name (get $containers .name)) -}}
{{- end -}}
{{- $_ := set $containers .name $of -}}
{{- end -}}
{{- end -}}
{{- $volumes := dict -}}
{{- range include "migrator.volumes" . | fromYamlArray -}}
{{- if hasKey $volumes .name -}}
{{- fail (printf "extraVolumes: a volume called %s is there already, this chart's or one of an entry above. Choose another name" .name) -}}
{{- end -}}
{{- $_ := set $volumes .name true -}}
{{- end -}}
{{- $_ := set $volumes "tmp" true -}}
{{- range .Values.extraVolumeMounts -}}
{{- if and $.Values.checkVolumeMounts (not (hasKey $volumes .name)) -}}
{{- fail (printf "extraVolumeMounts: there is no volume called %s. Add it to extraVolumes, or set checkVolumeMounts=false where something else adds it to the pod" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A hook runs before the objects of its release exist, and on an upgrade while they are still the old ones. */}}
{{- define "migrator.validateSecret" -}}
{{- $database := .Values.database -}}
{{- if $database.checkSecret -}}
{{- if ne $database.mountAs "none" -}}
{{- include "migrator.lookUp" (dict "root" . "kind" "Secret" "name" $database.existingSecret "keys" (dict "database.secretKey" $database.secretKey)) -}}
{{- end -}}
{{- include "migrator.lookUp" (dict "root" . "kind" "Secret" "name" $database.direct.existingSecret "keys" (dict "database.direct.secretKey" $database.direct.secretKey)) -}}
{{- $files := dict "database.tls.caKey" $database.tls.caKey "database.tls.certKey" $database.tls.certKey "database.tls.keyKey" $database.tls.keyKey -}}
{{- include "migrator.lookUp" (dict "root" . "kind" "Secret" "name" $database.tls.existingSecret "keys" $files) -}}
{{- include "migrator.lookUp" (dict "root" . "kind" "ConfigMap" "name" $database.tls.existingConfigMap "keys" $files) -}}
{{- end -}}
{{- end -}}

{{/* Called with a dict: root, kind, name, keys (from the value's name to the key). An empty name or key is none. */}}
{{- define "migrator.lookUp" -}}
{{- if .name -}}
{{- $found := lookup "v1" .kind .root.Release.Namespace .name -}}
{{- /* Without a connection to a cluster nothing is found, not even what every namespace has. */ -}}
{{- if or $found (lookup "v1" "ConfigMap" .root.Release.Namespace "kube-root-ca.crt") -}}
{{- include "migrator.validateFound" (merge (dict "found" $found) .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The same with found: the object, empty where there is none. */}}
{{- define "migrator.validateFound" -}}
{{- $release := .root.Release -}}
{{- $otherwise := "(or set database.checkSecret=false)" -}}
{{- if not .found -}}
{{- fail (printf "there is no %s %s in the namespace %s: a hook runs before everything else of the release, so one that the release makes comes too late. Make it first %s" .kind .name $release.Namespace $otherwise) -}}
{{- end -}}
{{- if eq (dig "metadata" "annotations" "meta.helm.sh/release-name" "" .found) $release.Name -}}
{{- fail (printf "the %s %s belongs to this release: a pre-install hook runs before it exists, a pre-upgrade hook reads the old one. Make it outside of the release, or as a hook with a lower weight, or set mode=job %s" .kind .name $otherwise) -}}
{{- end -}}
{{- $there := keys (default dict .found.data) (default dict .found.binaryData) | sortAlpha -}}
{{- range $value, $key := .keys -}}
{{- if and $key (not (has $key $there)) -}}
{{- fail (printf "the %s %s has no key %s, which %s names; it has: %s. Set %s, or add the key %s" $.kind $.name $key $value (join ", " $there | default "none") $value $otherwise) -}}
{{- end -}}
{{- end -}}
{{- end -}}
