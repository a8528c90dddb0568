"""`render(job, decision, …)`: the manifests that a decision asks for, whole. Each function reads like what it makes."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.status import AttemptStatus

from ..decide import Decision, PodStart
from ..settings import Settings
from .config import run_config_map
from .rollout import rollout_pod
from .secret import control_secret
from .services import service
from .storage import claim
from .trainer import trainer_pod

__all__ = ["render"]


def render(job: RLJob, decision: Decision, control_token: str, settings: Settings) -> list[Manifest]:
    """What must exist for the pods that `decision` starts, then these pods; nothing if it starts none.

    `control_token` is that of the job's Secret, should it not exist yet.
    """
    attempt = job.status.attempt if job.status else None
    if attempt is None or not decision.start:
        return []
    pods = [_pod(job, attempt, start, settings) for start in decision.start]
    return [
        *claim(job),
        service(job),
        control_secret(job, control_token),
        run_config_map(job, attempt),
        *pods,
    ]


def _pod(job: RLJob, attempt: AttemptStatus, start: PodStart, settings: Settings) -> Manifest:
    match start.role:
        case RoleName.TRAINER:
            return trainer_pod(job, attempt, start, settings)
        case RoleName.ROLLOUT:
            return rollout_pod(job, attempt, start, settings)
