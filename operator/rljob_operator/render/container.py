"""A container of a pod: its program, environment, resources and mounts."""

from __future__ import annotations

from dataclasses import dataclass, field

from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.roles import Role

from .. import names
from ..settings import Requests, Settings
from .authority import authority
from .environment import environment
from .requests import resources


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
    requests: Requests
    """The administrator's, for what the role does not ask for."""
    grace_seconds: int = 0
    """Of the whole pod."""
    annotations: dict[str, str] = field(default_factory=dict)
    volumes: tuple[Manifest, ...] = ()
    mounts: tuple[Manifest, ...] = ()
    before: tuple[Manifest, ...] = ()
    """Init containers, rendered."""


def container(job: RLJob, name: str, facts: Container, settings: Settings) -> Manifest:
    defaults = settings.job_defaults
    trusted = authority(defaults)
    return {
        "name": name,
        "image": facts.image or facts.role.image or defaults.image,
        "imagePullPolicy": defaults.image_pull_policy,
        "command": [*settings.command, facts.verb],
        "env": environment(job, (*trusted.env, *facts.env), defaults, facts.role.env),
        "ports": list(facts.ports),
        "resources": resources(
            facts.role.resources, facts.requests, job.spec.accelerator.resource_name, facts.gpus
        ),
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
            *trusted.mounts,
            *facts.mounts,
            *(mount.model_dump(by_alias=True, exclude_none=True) for mount in facts.role.volume_mounts),
        ],
    }
