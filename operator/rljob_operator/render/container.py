"""A container of a pod: its program, environment, resources and mounts."""

from __future__ import annotations

from dataclasses import dataclass, field

from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.roles import Role

from .. import names
from ..settings import Settings
from .environment import environment


@dataclass(frozen=True)
class Container:
    """Where containers differ."""

    role: Role
    image: str
    verb: str
    """Last word of the program."""
    env: tuple[Manifest, ...]
    ports: tuple[Manifest, ...]
    probes: Manifest
    gpus: int
    grace_seconds: int = 0
    """Of the whole pod."""
    annotations: dict[str, str] = field(default_factory=dict)
    volumes: tuple[Manifest, ...] = ()
    mounts: tuple[Manifest, ...] = ()
    before: tuple[Manifest, ...] = ()
    """Init containers, rendered."""


def container(job: RLJob, name: str, facts: Container, settings: Settings) -> Manifest:
    defaults = settings.job_defaults
    return {
        "name": name,
        "image": facts.image or facts.role.image or defaults.image,
        "imagePullPolicy": defaults.image_pull_policy,
        "command": [*settings.command, facts.verb],
        "env": environment(job, facts.env, defaults, facts.role.env),
        "ports": list(facts.ports),
        "resources": _resources(job, facts),
        **facts.probes,
        "terminationMessagePath": names.TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "run", "mountPath": names.RUN_PATH, "readOnly": True},
            {"name": "storage", "mountPath": names.CLAIM_PATH},
            {"name": "shm", "mountPath": names.SHM_PATH},
            {"name": "tmp", "mountPath": names.TMP_PATH},
            *facts.mounts,
            *(mount.model_dump(by_alias=True, exclude_none=True) for mount in facts.role.volume_mounts),
        ],
    }


def _resources(job: RLJob, facts: Container) -> Manifest:
    """Devices and huge pages cannot be overcommitted: their limit is what was asked for."""
    gpus = {job.spec.accelerator.resource_name: str(facts.gpus)} if facts.gpus else {}
    requests, limits = facts.role.resources.requests, facts.role.resources.limits
    whole = {
        name: amount for name, amount in requests.items() if "/" in name or name.startswith("hugepages-")
    }
    return {"requests": requests | gpus, "limits": whole | limits | gpus}
