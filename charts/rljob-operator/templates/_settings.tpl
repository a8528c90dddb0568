{{/* The operator's settings: the values that `Settings` declares. A test holds the list against it. */}}
{{- define "rljob-operator.settings" -}}
{{- $image := include "rljob-operator.inRegistry" (list . (printf "rljob-trainer:%s" .Chart.AppVersion)) }}
{{- $readers := prepend .Values.jobDefaults.progressNamespaces .Release.Namespace | uniq }}
{{- $filled := dict "image" (.Values.jobDefaults.image | default $image) "progressNamespaces" $readers }}
{{- $jobs := merge $filled .Values.jobDefaults }}
{{- $settings := pick .Values "namespaces" "workers" "progressPeriodSeconds" "progressWritesPerSecond" "command" }}
{{- set $settings "jobDefaults" $jobs | toPrettyJson }}
{{- end }}
