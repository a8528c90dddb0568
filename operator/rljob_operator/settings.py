"""What an administrator decides, not a user. In a cluster a file, written by the chart from its values; else defaults.

`jobDefaults` fill what a job leaves out. A pod has those of the time when it started, and what runs is never changed.
Images and storage class are those of the time when its attempt began (`pin.py`): a server that is replaced in the midst
of one is of the same version as the others, and has the environment, tolerations and requests of today.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from rljob_api.base import DnsLabel, DnsSubdomain, EnvVar, LabelValue, Quantity, Spec
from rljob_api.placement import Toleration

ENV = "RLJOB_SETTINGS_FILE"

Requests = dict[Literal["cpu", "memory"], Quantity]


class CaConfigMap(Spec):
    """A file of certificates in a ConfigMap of each namespace with jobs."""

    name: DnsSubdomain
    """Name of the ConfigMap."""
    key: str = Field("ca.crt", pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)
    """Key in it."""


class JobDefaults(Spec):
    """What pods of a job get where the job itself says nothing."""

    image: str = Field("rljob-trainer:latest", min_length=1, max_length=512)
    """Image of trainers and rollouts."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """As in core/v1."""
    image_pull_secrets: list[DnsSubdomain] = Field([])
    """Names of Secrets in the job's namespace."""
    storage_class_name: DnsSubdomain | None = None
    """Storage class of new claims; absent means the cluster's default."""
    node_selector: dict[str, LabelValue] = Field({})
    """Labels that nodes must have."""
    tolerations: list[Toleration] = Field([])
    """As in core/v1; added to the job's own."""
    env: list[EnvVar] = Field([])
    """Environment of all pods, for example a proxy; the job's own wins."""
    ca_config_map: CaConfigMap | None = None
    """Certificates that all pods trust instead of those in the image, for example with that of a proxy: `{name, key}`
    of a ConfigMap in the job's namespace."""
    trainer_requests: Requests = Field({"cpu": "250m", "memory": "1Gi"})
    """What a trainer pod requests for each of its GPUs, or once without, where `trainer.resources` does not say."""
    rollout_requests: Requests = Field({"cpu": "250m", "memory": "2Gi"})
    """The same of a rollout pod, for `rollout.resources`."""
    network_policies: bool = True
    """Let only a job's own pods, and those of the namespaces below, connect to its pods."""
    progress_namespaces: list[DnsLabel] = Field([])
    """Namespaces whose pods may read a job's progress and metrics from rank 0, for example that of the monitoring; the
    chart adds the operator's own."""
    vllm_metrics_namespaces: list[DnsLabel] = Field([])
    """Namespaces whose pods may connect to vLLM's port, to read its `/metrics`; every other route but `/health` asks
    for the job's token. Empty: only the job's own trainers connect to it."""


class Settings(Spec):
    """The whole file."""

    namespaces: list[str] = Field([])
    """Where jobs are looked after; empty means everywhere."""
    workers: int = Field(8, ge=1, le=256)
    """Jobs that are worked on at a time."""
    progress_period_seconds: float = Field(30.0, ge=1.0)
    """A job's progress is written to its status at most this often."""
    progress_writes_per_second: float = Field(20.0, gt=0)
    """The same for all jobs together."""
    job_defaults: JobDefaults = JobDefaults()
    """What pods of a job get where the job itself says nothing."""
    command: list[str] = Field(["python3", "-m", "rljob_trainer"], min_length=1)
    """The pods' program; `train`, `rollout` or `convert` follows."""


def read_settings(path: Path | None) -> Settings:
    """The settings in the file, or the defaults without one.

    Raises `pydantic.ValidationError`, and `OSError` when the file cannot be read.
    """
    return Settings() if path is None else Settings.model_validate_json(path.read_text())
