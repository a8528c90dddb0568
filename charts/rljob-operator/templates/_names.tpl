{{/* Names and labels of everything that the chart makes. */}}

{{- define "rljob-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* A release `rljob` or `rljob-operator` gives `rljob-operator`, another `x` gives `x-rljob-operator`. */}}
{{- define "rljob-operator.fullname" -}}
{{- $name := include "rljob-operator.name" . }}
{{- $full := printf "%s-%s" .Release.Name $name }}
{{- if hasPrefix (printf "%s-" .Release.Name) $name }}
{{- $full = $name }}
{{- else if contains $name .Release.Name }}
{{- $full = .Release.Name }}
{{- end }}
{{- .Values.fullnameOverride | default $full | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "rljob-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "rljob-operator.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* Of objects without a namespace, where two releases of one name may meet. */}}
{{- define "rljob-operator.clusterName" -}}
{{ .Release.Namespace }}-{{ include "rljob-operator.fullname" . }}
{{- end }}

{{- define "rljob-operator.subject" -}}
kind: ServiceAccount
name: {{ include "rljob-operator.serviceAccountName" . }}
namespace: {{ .Release.Namespace }}
{{- end }}

{{/* What finds the operator's pods: never changed, for a Deployment's selector cannot be. */}}
{{- define "rljob-operator.selector" -}}
app.kubernetes.io/name: {{ include "rljob-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rljob-operator.labels" -}}
{{ include "rljob-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: rljob
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Metadata of an object in the release's namespace: (list . "-suffix") */}}
{{- define "rljob-operator.metadata" -}}
{{- $top := first . -}}
name: {{ include "rljob-operator.fullname" $top }}{{ last . }}
namespace: {{ $top.Release.Namespace }}
labels:
  {{- include "rljob-operator.labels" $top | nindent 2 }}
{{- end }}

{{/* The registry before an image's name: (list . "name") */}}
{{- define "rljob-operator.inRegistry" -}}
{{- $registry := (first .).Values.registry }}
{{- if $registry }}{{ $registry }}/{{ end }}{{ last . }}
{{- end }}

{{- define "rljob-operator.image" -}}
{{- $version := printf ":%s" (.Values.image.tag | default .Chart.AppVersion) }}
{{- $exact := ternary (printf "@%s" .Values.image.digest) $version (ne .Values.image.digest "") }}
{{- include "rljob-operator.inRegistry" (list . .Values.image.repository) }}{{ $exact }}
{{- end }}

{{- define "rljob-operator.testLabels" -}}
app.kubernetes.io/name: {{ include "rljob-operator.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
