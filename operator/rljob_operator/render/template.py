"""Merges what the user's template and the administrator's defaults say into a pod.

By key: of two labels, annotations or node labels with one key the template's wins over the defaults', and the
operator's own labels over both. Lists are joined.
"""

from __future__ import annotations

from rljob_api.base import Manifest, Spec
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.roles import Role
from rljob_api.template import TemplatePodSpec

from .. import names
from ..settings import JobDefaults

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def merged_annotations(role: Role, own: dict[str, str]) -> dict[str, str]:
    """A user may think otherwise of what autoscalers may do."""
    return own | role.template.metadata.annotations


def merged_labels(role: Role, own: dict[str, str]) -> dict[str, str]:
    return role.template.metadata.labels | own


def placement(job: RLJob, name: RoleName, role: Role, defaults: JobDefaults) -> Manifest:
    """Fields of the pod's spec; those that nobody asked for are absent."""
    wanted = role.template.spec
    fields: Manifest = {
        "serviceAccountName": wanted.service_account_name,
        "nodeSelector": defaults.node_selector | wanted.node_selector,
        "tolerations": [*_plain(wanted, "tolerations"), *map(_dump, defaults.tolerations)],
        "affinity": _affinity(job, wanted),
        "topologySpreadConstraints": _spread(job, name, wanted),
        "priorityClassName": wanted.priority_class_name,
        "schedulerName": wanted.scheduler_name,
        "runtimeClassName": wanted.runtime_class_name,
        "imagePullSecrets": _pull_secrets(wanted, defaults),
    }
    return {key: value for key, value in fields.items() if value}


def volumes(role: Role) -> list[Manifest]:
    """Those of the template."""
    return _plain(role.template.spec, "volumes")


def _pull_secrets(wanted: TemplatePodSpec, defaults: JobDefaults) -> list[Manifest]:
    named = [secret.name for secret in wanted.image_pull_secrets]
    return [{"name": name} for name in dict.fromkeys([*named, *defaults.image_pull_secrets])]


def _affinity(job: RLJob, wanted: TemplatePodSpec) -> Manifest:
    """The template's; and pods stay together if their claim can be mounted on one node only."""
    affinity = _dump(wanted.affinity) if wanted.affinity else {}
    if not job.spec.checkpoint.storage.on_one_node:
        return affinity
    together: Manifest = {
        "labelSelector": {"matchLabels": names.job_labels(job.metadata.name)},
        "topologyKey": "kubernetes.io/hostname",
    }
    near = affinity.get("podAffinity", {})
    return affinity | {"podAffinity": near | {REQUIRED: [*near.get(REQUIRED, []), together]}}


def _spread(job: RLJob, name: RoleName, wanted: TemplatePodSpec) -> list[Manifest]:
    """Without a selector a constraint counts nothing; here it counts the role's own pods."""
    own = {"labelSelector": {"matchLabels": names.role_labels(job.metadata.name, name)}}
    return [own | constraint for constraint in _plain(wanted, "topologySpreadConstraints")]


def _plain(wanted: TemplatePodSpec, field: str) -> list[Manifest]:
    found: list[Manifest] = _dump(wanted)[field]
    return found


def _dump(part: Spec) -> Manifest:
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)
