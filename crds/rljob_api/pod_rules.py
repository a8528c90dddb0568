"""Rules on what a user may say of pods: nothing that the operator owns, nothing that loosens a pod's sandbox.

Each holds for both roles, under a name and a path of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .failure import RoleName
from .roles import Role
from .rule import Rule

if TYPE_CHECKING:
    from .job import JobSpec

OWN_DOMAINS = ["rljob.io/", "app.kubernetes.io/"]
UNSAFE_ANNOTATIONS = [
    "rljob.io/",
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
    "io.kubernetes.cri-o.",
    "io.containerd.",
]
"""Beginnings of annotations that a runtime, or an older cluster, takes for a weaker sandbox."""
OWN_VOLUMES = ["run", "storage", "shm", "tmp", "reward", "initial", "rljob-ca"]
TAKEN_PATHS = [
    "/etc/rljob",
    "/etc/rljob-reward",
    "/etc/rljob-ca",
    "/initial",
    "/var/lib/rljob",
    "/tmp",
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/var/run",
]
OWN_ENV = ["POD_IP", "POD_NAME"]
OWN_ENV_PREFIX = "RLJOB_"
PLAIN_RESOURCES = ["cpu", "memory", "ephemeral-storage"]
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


def _role(spec: JobSpec, role: RoleName) -> Role:
    return spec.trainer if role is RoleName.TRAINER else spec.rollout


def _begins(text: str, beginnings: list[str]) -> bool:
    return any(text.startswith(beginning) for beginning in beginnings)


def _within(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}/")


def free_path(path: str) -> bool:
    """Whether a user may mount something at this absolute path of a container."""
    return not any(_within(path, taken) or _within(taken, path) for taken in TAKEN_PATHS)


def _known_resource(name: str, accelerator: str) -> bool:
    named = name in PLAIN_RESOURCES or name.startswith("hugepages-") or "/" in name
    return named and name != accelerator


def _resources_known(spec: JobSpec, role: Role) -> bool:
    names = [*role.resources.requests, *role.resources.limits]
    return all(_known_resource(name, spec.accelerator.resource_name) for name in names)


def _mounts_of_template(role: Role) -> bool:
    names = {volume.name for volume in role.template.spec.volumes}
    return all(mount.name in names for mount in role.volume_mounts)


def _own_env(name: str) -> bool:
    return name in OWN_ENV or name.startswith(OWN_ENV_PREFIX)


_CEL_KNOWN = (
    f"(k in {PLAIN_RESOURCES} || k.startsWith('hugepages-') || k.contains('/'))"
    " && k != self.accelerator.resourceName"
)


class RoleRule(NamedTuple):
    """A rule of each role; `path` is relative to the role, and `ROLE` in `cel` is the role's name."""

    name: str
    path: str
    message: str
    holds: Callable[[JobSpec, Role], bool]
    cel: str


def _keys_are_labels(role: Role) -> bool:
    template = role.template
    maps = (template.metadata.labels, template.metadata.annotations, template.spec.node_selector)
    return all(re.fullmatch(LABEL_KEY, key) for keys in maps for key in keys)


ROLE_RULES: list[RoleRule] = [
    RoleRule(
        "label-keys",
        "template",
        "a key of metadata.labels, metadata.annotations or spec.nodeSelector is none: use `name` or "
        "`domain.example/name`, of letters, digits, dashes, dots and underscores.",
        lambda spec, role: _keys_are_labels(role),
        "self.ROLE.template.metadata.labels.all(k, k.matches(KEY))"
        " && self.ROLE.template.metadata.annotations.all(k, k.matches(KEY))"
        " && self.ROLE.template.spec.nodeSelector.all(k, k.matches(KEY))",
    ),
    RoleRule(
        "own-labels",
        "template.metadata.labels",
        "labels under rljob.io/ and app.kubernetes.io/ are set by the operator: remove them, or use another domain.",
        lambda spec, role: not any(_begins(key, OWN_DOMAINS) for key in role.template.metadata.labels),
        f"!self.ROLE.template.metadata.labels.exists(k, {OWN_DOMAINS}.exists(d, k.startsWith(d)))",
    ),
    RoleRule(
        "safe-annotations",
        "template.metadata.annotations",
        "one of these belongs to the operator, or loosens the container's sandbox: remove it.",
        lambda spec, role: (
            not any(_begins(key, UNSAFE_ANNOTATIONS) for key in role.template.metadata.annotations)
        ),
        f"!self.ROLE.template.metadata.annotations.exists(k, {UNSAFE_ANNOTATIONS}.exists(d, k.startsWith(d)))",
    ),
    RoleRule(
        "no-system-priority",
        "template.spec.priorityClassName",
        "classes that begin with `system-` are the cluster's own: choose another.",
        lambda spec, role: not (role.template.spec.priority_class_name or "").startswith("system-"),
        "!has(self.ROLE.template.spec.priorityClassName)"
        " || !self.ROLE.template.spec.priorityClassName.startsWith('system-')",
    ),
    RoleRule(
        "one-kind-of-volume",
        "template.spec.volumes",
        "set exactly one of `persistentVolumeClaim`, `configMap`, `secret` and `emptyDir` in each volume.",
        lambda spec, role: all(volume.kinds == 1 for volume in role.template.spec.volumes),
        "self.ROLE.template.spec.volumes.all(v, (has(v.persistentVolumeClaim) ? 1 : 0) + (has(v.configMap) ? 1 : 0)"
        " + (has(v.secret) ? 1 : 0) + (has(v.emptyDir) ? 1 : 0) == 1)",
    ),
    RoleRule(
        "own-volumes",
        "template.spec.volumes",
        f"the operator's own volumes are named {', '.join(OWN_VOLUMES)}: rename yours.",
        lambda spec, role: not any(volume.name in OWN_VOLUMES for volume in role.template.spec.volumes),
        f"!self.ROLE.template.spec.volumes.exists(v, v.name in {OWN_VOLUMES})",
    ),
    RoleRule(
        "mounts-of-template",
        "volumeMounts",
        "each `name` must be that of a volume in `template.spec.volumes`: add the volume, or remove the mount.",
        lambda spec, role: _mounts_of_template(role),
        "self.ROLE.volumeMounts.all(m, self.ROLE.template.spec.volumes.exists(v, v.name == m.name))",
    ),
    RoleRule(
        "free-mount-paths",
        "volumeMounts",
        "a `mountPath` is at, below or above a directory of the operator or the system "
        f"({', '.join(TAKEN_PATHS)}): choose another.",
        lambda spec, role: all(free_path(mount.mount_path) for mount in role.volume_mounts),
        f"self.ROLE.volumeMounts.all(m, {TAKEN_PATHS}.all(p, m.mountPath != p && !m.mountPath.startsWith(p + '/')"
        " && !p.startsWith(m.mountPath + '/')))",
    ),
    RoleRule(
        "known-resources",
        "resources",
        "allowed are cpu, memory, ephemeral-storage, hugepages-* and names with a domain such as rdma/hca; "
        "accelerators come from trainer.gpusPerNode and rollout.tensorParallel.",
        _resources_known,
        f"self.ROLE.resources.requests.all(k, {_CEL_KNOWN}) && self.ROLE.resources.limits.all(k, {_CEL_KNOWN})",
    ),
    RoleRule(
        "free-env",
        "env",
        "names that begin with RLJOB_, and POD_IP and POD_NAME, are set by the operator: rename yours.",
        lambda spec, role: not any(_own_env(variable.name) for variable in role.env),
        f"!self.ROLE.env.exists(e, e.name in {OWN_ENV} || e.name.startsWith('{OWN_ENV_PREFIX}'))",
    ),
    RoleRule(
        "one-value",
        "env",
        "set `value` or `valueFrom` of a variable, not both.",
        lambda spec, role: all(not variable.value or variable.value_from is None for variable in role.env),
        "self.ROLE.env.all(e, !has(e.valueFrom) || e.value == '')",
    ),
]


def _rule(role: RoleName, parts: RoleRule) -> Rule:
    return Rule(
        f"{role.value}-{parts.name}",
        f"{role.value}.{parts.path}",
        parts.message,
        lambda spec: parts.holds(spec, _role(spec, role)),
        parts.cel.replace("ROLE", role.value).replace("KEY", f"r'{LABEL_KEY}'"),
    )


POD_RULES: list[Rule] = [_rule(role, parts) for parts in ROLE_RULES for role in RoleName]
