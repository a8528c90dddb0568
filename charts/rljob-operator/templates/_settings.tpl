{{/* The operator's settings: the values that `Settings` declares. A test holds the list against it. */}}
{{- define "rljob-operator.settings" -}}
{{- $settings := pick .Values "namespaces" "workers" "progressPeriodSeconds" "progressWritesPerSecond" "command" }}
{{- set $settings "jobDefaults" (include "rljob-operator.jobDefaults" . | fromJson) | toPrettyJson }}
{{- end }}

{{- define "rljob-operator.jobDefaults" -}}
{{- $image := include "rljob-operator.inRegistry" (list . (printf "rljob-trainer:%s" .Chart.AppVersion)) }}
{{- $readers := prepend .Values.jobDefaults.progressNamespaces .Release.Namespace | uniq }}
{{- $ours := dict "image" (.Values.jobDefaults.image | default $image) "progressNamespaces" $readers }}
{{- merge $ours .Values.jobDefaults | toJson }}
{{- end }}
