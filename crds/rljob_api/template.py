"""`trainer.template` and `rollout.template`: the part of core/v1's PodTemplateSpec that a user may set.

Typed and closed, because the whole of it is too large for a client-side apply, and would let in what a restricted
namespace forbids. Paths, names and meanings are those of core/v1. `placement.py` has affinity and its like.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .base import (
    BY_NAME,
    BY_NAME_SCHEMA,
    DnsLabel,
    DnsSubdomain,
    LabelValue,
    LocalReference,
    Quantity,
    ShortText,
    Spec,
)
from .placement import Affinity, Toleration, TopologySpreadConstraint


class TemplateMetadata(Spec):
    """Labels and annotations of each pod, beside those of the operator."""

    labels: dict[str, LabelValue] = Field({}, max_length=32)
    """Labels; those under `rljob.io/` and `app.kubernetes.io/` are the operator's."""
    annotations: dict[str, ShortText] = Field({}, max_length=32)
    """Annotations; none that would loosen the sandbox of a container."""


class KeyToPath(Spec):
    """One key of a ConfigMap or Secret, and the file it becomes."""

    key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)
    """Key."""
    path: str = Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)
    """Name of the file."""


class ClaimSource(Spec):
    """An existing claim."""

    claim_name: DnsSubdomain
    """Its name."""
    read_only: bool = False
    """Mount it for reading only."""


class ConfigMapSource(Spec):
    """A ConfigMap as files."""

    name: DnsSubdomain
    """Its name."""
    items: list[KeyToPath] = Field([], max_length=16)
    """Only these keys; empty means all."""
    optional: bool = False
    """Start without it."""


class SecretSource(Spec):
    """A Secret as files."""

    secret_name: DnsSubdomain
    """Its name."""
    items: list[KeyToPath] = Field([], max_length=16)
    """Only these keys; empty means all."""
    optional: bool = False
    """Start without it."""


class Medium(StrEnum):
    """What an emptyDir is made of."""

    DISK = ""
    MEMORY = "Memory"


class EmptyDirSource(Spec):
    """A directory that lives as long as the pod."""

    medium: Medium = Medium.DISK
    """Empty for the node's disk, or `Memory`, which counts as the container's."""
    size_limit: Quantity | None = None
    """Size above which the pod is evicted; absent means none."""


class Volume(Spec):
    """One volume, of exactly one kind."""

    name: DnsLabel
    """What `volumeMounts` call it; `run`, `storage`, `shm`, `tmp` and `reward` are the operator's."""
    persistent_volume_claim: ClaimSource | None = None
    """An existing claim."""
    config_map: ConfigMapSource | None = None
    """A ConfigMap as files."""
    secret: SecretSource | None = None
    """A Secret as files."""
    empty_dir: EmptyDirSource | None = None
    """A directory that lives as long as the pod."""

    @property
    def kinds(self) -> int:
        """How many kinds it claims to be."""
        sources = (self.persistent_volume_claim, self.config_map, self.secret, self.empty_dir)
        return sum(source is not None for source in sources)


class VolumeMount(Spec):
    """Where a volume of the template appears."""

    name: DnsLabel
    """A volume of `template.spec.volumes`."""
    mount_path: str = Field(pattern=r"^(/\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)+$", max_length=256)
    """Absolute path; not below one that the operator or the system uses."""
    sub_path: str | None = Field(
        None, pattern=r"^[-_a-zA-Z0-9][-._a-zA-Z0-9]*(/[-_a-zA-Z0-9][-._a-zA-Z0-9]*)*$", max_length=256
    )
    """Path inside the volume; absent means its root."""
    read_only: bool = False
    """Mount it for reading only."""


class TemplatePodSpec(Spec):
    """Where pods run, as whom, and what they find there."""

    service_account_name: DnsSubdomain | None = None
    """Service account, for a cloud's workload identity; its token for the API server is not mounted."""
    node_selector: dict[str, LabelValue] = Field({}, max_length=32)
    """Labels that a node must have."""
    tolerations: list[Toleration] = Field([], max_length=32)
    """Taints that are no obstacle."""
    affinity: Affinity | None = None
    """Nodes and neighbours that pods want or avoid."""
    topology_spread_constraints: list[TopologySpreadConstraint] = Field([], max_length=8)
    """How pods spread over the cluster."""
    priority_class_name: DnsSubdomain | None = None
    """Priority class; those of the system are refused."""
    scheduler_name: DnsSubdomain | None = None
    """Scheduler; absent means the cluster's own."""
    runtime_class_name: DnsSubdomain | None = None
    """Runtime class, for example `nvidia`."""
    image_pull_secrets: Annotated[list[LocalReference], BY_NAME] = Field(
        [], max_length=16, json_schema_extra=BY_NAME_SCHEMA
    )
    """Secrets for pulling images, beside those of the operator's settings."""
    volumes: Annotated[list[Volume], BY_NAME] = Field([], max_length=32, json_schema_extra=BY_NAME_SCHEMA)
    """Volumes for `volumeMounts`."""


class PodTemplate(Spec):
    """What a role's pods get beside what the operator sets. Takes effect for pods that start later."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations."""
    spec: TemplatePodSpec = TemplatePodSpec()
    """Where pods run, as whom, and what they find there."""
