{{/* The operator's settings: the values that `Settings` declares. A test holds the list against it. */}}
{{- define "rljob-operator.settings" -}}
{{- $image := include "rljob-operator.inRegistry" (list . (printf "rljob-trainer:%s" .Chart.AppVersion)) }}
{{- $jobs := merge (dict "image" (.Values.jobDefaults.image | default $image)) .Values.jobDefaults }}
{{- $settings := pick .Values "namespaces" "workers" "progressPeriodSeconds" "progressWritesPerSecond" "command" }}
{{- set $settings "jobDefaults" $jobs | toPrettyJson }}
{{- end }}
