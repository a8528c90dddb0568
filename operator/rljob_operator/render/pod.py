"""What trainer and rollout pods share: identity, volumes, environment, security."""

from __future__ import annotations

from dataclasses import dataclass

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.roles import Role
from rljob_api.run import RUN_FILE
from rljob_api.status import AttemptStatus

from .. import names
from ..decide import PodStart
from ..settings import Settings
from .owner import child

USER_ID = 65532


@dataclass(frozen=True)
class Container:
    """Where the two roles differ."""

    role: Role
    verb: str
    """Second word of the pod's program."""
    env: tuple[Manifest, ...]
    ports: tuple[Manifest, ...]
    probes: Manifest
    gpus: int
    grace_seconds: int


def pod(
    job: RLJob, attempt: AttemptStatus, start: PodStart, container: Container, settings: Settings
) -> Manifest:
    name = job.metadata.name
    metadata = child(job, start.name)
    metadata["labels"] = names.pod_labels(name, start.role, start.index, attempt.number)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "hostname": names.hostname(name, start.role, start.index),
            "subdomain": names.service(name),
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": container.grace_seconds,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(job, start.role, container, settings)],
            "volumes": [
                {"name": "run", "configMap": {"name": attempt.run_config_map_name}},
                {"name": "storage", "persistentVolumeClaim": {"claimName": _claim(job)}},
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }


def _container(job: RLJob, role: RoleName, container: Container, settings: Settings) -> Manifest:
    return {
        "name": role.value,
        "image": container.role.image or settings.job_defaults.image,
        "command": [*settings.command, container.verb],
        "env": [*_env(job, container), *(one.model_dump() for one in container.role.env)],
        "ports": list(container.ports),
        "resources": _resources(job, container),
        **container.probes,
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
        ],
    }


def _env(job: RLJob, container: Container) -> list[Manifest]:
    """The user's come after these and win."""
    return [
        {"name": "RLJOB_RUN_FILE", "value": f"{names.RUN_PATH}/{RUN_FILE}"},
        {"name": "RLJOB_TERMINATION_LOG", "value": names.TERMINATION_LOG},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": names.CONTROL_TOKEN_ENV, "valueFrom": {"secretKeyRef": _control_token(job)}},
        *container.env,
        *([] if job.spec.on_gpu else [{"name": "OMP_NUM_THREADS", "value": "1"}]),
    ]


def _control_token(job: RLJob) -> Manifest:
    return {"name": names.control_secret(job.metadata.name), "key": names.CONTROL_TOKEN_KEY}


def _resources(job: RLJob, container: Container) -> Manifest:
    gpus = {job.spec.accelerator.resource_name: str(container.gpus)} if container.gpus else {}
    return {
        "requests": container.role.resources.requests | gpus,
        "limits": container.role.resources.limits | gpus,
    }


def _claim(job: RLJob) -> str:
    return job.spec.checkpoint.storage.claim_name or names.claim(job.metadata.name)
