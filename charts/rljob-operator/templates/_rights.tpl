{{/* Made from rljob_operator/cluster/rights.py by `make crds`. Change that. */}}

{{- define "rljob-operator.jobRules" -}}
rules:
  - apiGroups: ["rljob.io"]
    resources: [rljobs]
    verbs: [list, watch, delete]
  - apiGroups: ["rljob.io"]
    resources: [rljobs/status]
    verbs: [update]
  - apiGroups: [""]
    resources: [pods]
    verbs: [get, list, watch, create, delete]
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [get, list, watch, create, delete]
  - apiGroups: [""]
    resources: [secrets]
    verbs: [create]
  - apiGroups: [""]
    resources: [services]
    verbs: [list, watch, patch, create]
  - apiGroups: [""]
    resources: [persistentvolumeclaims]
    verbs: [list, watch, patch, create]
  - apiGroups: ["networking.k8s.io"]
    resources: [networkpolicies]
    verbs: [list, watch, patch, create, delete]
  - apiGroups: ["policy"]
    resources: [poddisruptionbudgets]
    verbs: [list, watch, patch, create, delete]
  - apiGroups: [""]
    resources: [events]
    verbs: [create, list]
{{- end }}

{{- define "rljob-operator.leaseRules" -}}
rules:
  - apiGroups: ["coordination.k8s.io"]
    resources: [leases]
    verbs: [get, create, update]
{{- end }}
