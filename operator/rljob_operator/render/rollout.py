"""A rollout pod: one vLLM server."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.status import AttemptStatus

from .. import names
from ..decide import PodStart
from ..settings import Settings
from .container import Container
from .pod import pod
from .probes import http_probes

GRACE_SECONDS = 10
"""A server has nothing to save."""
PATIENCE_SECONDS = 120


def rollout_pod(job: RLJob, attempt: AttemptStatus, start: PodStart, settings: Settings) -> Manifest:
    rollout = job.spec.rollout
    facts = Container(
        role=rollout,
        image=attempt.rollout_image,
        verb="rollout",
        env=({"name": "RLJOB_REPLICA", "value": str(start.index)},),
        ports=({"name": "http", "containerPort": names.ROLLOUT_PORT},),
        probes=http_probes(
            names.HEALTH_URL_PATH, names.ROLLOUT_PORT, startup_period=1, patience_seconds=PATIENCE_SECONDS
        ),
        gpus=rollout.tensor_parallel if job.spec.on_gpu else 0,
        requests=settings.job_defaults.rollout_requests,
        grace_seconds=GRACE_SECONDS,
    )
    return pod(job, attempt, start, facts, settings)
