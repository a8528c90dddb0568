"""`render(job, decision, …)`: the manifests that a decision asks for, whole. Each function reads like what it makes."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.reasons import Reason
from rljob_api.status import AttemptStatus, ConditionType

from ..decide import Decision, PodStart
from ..observed import Observed
from ..settings import Settings
from ..status_reading import condition
from .config import run_config_map
from .disruption import disruption_budget
from .network import network_policies
from .rollout import rollout_pod
from .secret import control_secret, is_missed
from .services import service
from .storage import claim
from .trainer import trainer_pod

__all__ = ["missing", "render"]


def render(job: RLJob, decision: Decision, control_token: str, settings: Settings) -> list[Manifest]:
    """What must exist for the pods that `decision` starts, then these pods.

    After an edit, and while the cluster refuses something, what surrounds the pods, as it is to be now. Otherwise
    nothing when nothing starts: what runs stays as it was made, whatever operator or settings come after.
    `control_token` is that of the job's Secret, should it not exist yet.
    """
    attempt = job.attempt
    if attempt is None or not (decision.start or _edited(job) or _refused(job)):
        return []
    around = [*claim(job, attempt.storage_class_name), *surroundings(job, settings)]
    if not decision.start:
        return around
    return [
        *around,
        control_secret(job, control_token),
        run_config_map(job, attempt, settings.job_defaults),
        *(_pod(job, attempt, start, settings) for start in decision.start),
    ]


def missing(job: RLJob, observed: Observed, control_token: str, settings: Settings) -> list[Manifest]:
    """What is made again if somebody deleted it: what surrounds pods that run, and what pods say that they wait for."""
    lives = any(not (pod.ended or pod.terminating) for pod in observed.pods)
    return [
        *(surroundings(job, settings) if lives else ()),
        *([control_secret(job, control_token)] if is_missed(job, observed) else ()),
    ]


def surroundings(job: RLJob, settings: Settings) -> list[Manifest]:
    """What the job's pods can be reached, and left alone, by.

    A claim is not among it: an empty one would take the place of a lost one.
    """
    return [
        service(job),
        *(network_policies(job, settings.job_defaults) if settings.job_defaults.network_policies else ()),
        *disruption_budget(job),
    ]


def _edited(job: RLJob) -> bool:
    """Since the status was written."""
    return job.status is not None and job.status.observed_generation not in (0, job.metadata.generation)


def _refused(job: RLJob) -> bool:
    """As far as the status knows, which outlives the operator."""
    accepted = condition(job.status, ConditionType.ACCEPTED)
    return accepted is not None and accepted.status == "False" and accepted.reason != Reason.INVALID


def _pod(job: RLJob, attempt: AttemptStatus, start: PodStart, settings: Settings) -> Manifest:
    match start.role:
        case RoleName.TRAINER:
            return trainer_pod(job, attempt, start, settings)
        case RoleName.ROLLOUT:
            return rollout_pod(job, attempt, start, settings)
