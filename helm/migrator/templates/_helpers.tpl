{{/* Names that fit into a label, with room for the hash of mode "job". Where one is cut, nothing but a letter or digit ends it. */}}
{{- define "migrator.name" -}}
{{- include "migrator.cut" (default .Chart.Name .Values.nameOverride) -}}
{{- end -}}

{{- define "migrator.cut" -}}
{{- regexReplaceAll "[^a-zA-Z0-9]+$" (trunc 52 .) "" -}}
{{- end -}}

{{- define "migrator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- include "migrator.cut" .Release.Name -}}
{{- else -}}
{{- include "migrator.cut" (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- end -}}

{{- define "migrator.serviceAccountName" -}}
{{- default (ternary (include "migrator.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "migrator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "migrator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "migrator.labels" -}}
{{- $own := include "migrator.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- include "migrator.withoutNull" (merge $own .Values.commonLabels) -}}
{{- end -}}

{{/* A map without the keys whose value is null: how a default is taken away. */}}
{{- define "migrator.withoutNull" -}}
{{- $kept := dict -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $kept $key $value }}{{ end -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}

{{- define "migrator.image" -}}
{{- $image := .Values.image -}}
{{- $image.repository -}}
{{- with $image.tag }}:{{ . }}{{ end -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/*
Annotations of an object that is there for the Job, with those of the mode's hook.
Called with a dict: root, offset (from the hook's weight or wave), annotations.
*/}}
{{- define "migrator.annotations" -}}
{{- $root := .root -}}
{{- $all := merge (dict) .annotations $root.Values.commonAnnotations -}}
{{- if eq $root.Values.mode "helm" -}}
{{- $_ := set $all "helm.sh/hook" (ternary "pre-install,pre-upgrade,pre-rollback" "pre-install,pre-upgrade" $root.Values.helm.onRollback) -}}
{{- $_ := set $all "helm.sh/hook-weight" (toString (add $root.Values.helm.hookWeight .offset)) -}}
{{- $_ := set $all "helm.sh/hook-delete-policy" "before-hook-creation" -}}
{{- else if eq $root.Values.mode "argocd" -}}
{{- $_ := set $all "argocd.argoproj.io/hook" "PreSync" -}}
{{- $_ := set $all "argocd.argoproj.io/hook-delete-policy" "BeforeHookCreation" -}}
{{- $_ := set $all "argocd.argoproj.io/sync-wave" (toString (add $root.Values.argocd.syncWave .offset)) -}}
{{- end -}}
{{- with include "migrator.withoutNull" $all }}{{ if ne . "{}" }}{{ . }}{{ end }}{{ end -}}
{{- end -}}
