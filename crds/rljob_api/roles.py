"""What the roles `trainer` and `rollout` share, and `spec.accelerator`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import BY_NAME, BY_NAME_SCHEMA, EnvVar, Resources, Spec
from .template import PodTemplate, VolumeMount


class Accelerator(Spec):
    """The device plugin's resource."""

    resource_name: str = Field("nvidia.com/gpu", pattern=r"^[a-z0-9.-]+/[a-z0-9._-]+$", max_length=253)
    """Extended resource that a GPU is asked for by."""


class Role(Spec):
    """What both roles take."""

    image: str = Field("", max_length=1024)
    """Container image; empty means the default of the operator's settings. Without effect on `rljob run`."""
    env: Annotated[list[EnvVar], BY_NAME] = Field([], max_length=128, json_schema_extra=BY_NAME_SCHEMA)
    """Environment variables, set last: they win over those that the operator sets."""
    resources: Resources = Resources()
    """CPU and memory of each pod; accelerators come from `gpusPerNode` and `tensorParallel`."""
    volume_mounts: list[VolumeMount] = Field([], max_length=32)
    """Where volumes of the template appear. Without effect on `rljob run`."""
    template: PodTemplate = PodTemplate()
    """What pods get beside what the operator sets. Without effect on `rljob run`."""
