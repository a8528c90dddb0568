"""A trainer pod: all ranks of one node."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.status import AttemptStatus

from .. import names
from ..decide import PodStart
from ..settings import Settings
from .pod import Container, pod
from .probes import http_probes

PATIENCE_SECONDS = 600
"""The server of `/progress` shares its process with the training: a long pause there is no proof of a hang."""


def trainer_pod(job: RLJob, attempt: AttemptStatus, start: PodStart, settings: Settings) -> Manifest:
    trainer = job.spec.trainer
    leads = start.index == 0
    container = Container(
        role=trainer,
        verb="train",
        env=({"name": "RLJOB_NODE_RANK", "value": str(start.index)},),
        ports=_ports() if leads else (),
        probes=_probes() if leads else {},  # only rank 0 serves
        gpus=trainer.gpus_per_node,
        grace_seconds=job.spec.checkpoint.on_preemption.grace_period_seconds,
    )
    return pod(job, attempt, start, container, settings)


def _ports() -> tuple[Manifest, ...]:
    return (
        {"name": "master", "containerPort": names.MASTER_PORT},
        {"name": "progress", "containerPort": names.PROGRESS_PORT},
    )


def _probes() -> Manifest:
    return http_probes(
        names.PROGRESS_URL_PATH, names.PROGRESS_PORT, startup_period=1, patience_seconds=PATIENCE_SECONDS
    )
