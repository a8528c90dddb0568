"""`spec.suspend`: trainers save and go, servers go, storage stays.

A signal to `rljob run` asks for the same, so what is told names neither.
"""

from __future__ import annotations

from dataclasses import replace

from rljob_api.job import RLJob
from rljob_api.reasons import Reason
from rljob_api.status import ConditionType

from ..observed import Observed
from ..status_reading import condition
from .decision import Decision, Goal
from .finish import to_stop
from .silence import waiting


def suspended(job: RLJob, observed: Observed, now: float) -> Decision | None:
    """Once begun, a suspension comes to its end, also when the job is resumed meanwhile: pods that were told to go were
    not preempted."""
    if not job.spec.suspend and not _is_under_way(job):
        return None
    if any(not pod.ended for pod in observed.pods):
        message = "Pods save and stop."
        decision = waiting(Goal.SUSPEND, Reason.SUSPENDING, message, observed.pods, now)
        return replace(decision, delete=to_stop(observed.pods))
    message = "Suspended; resume it to go on from the newest checkpoint."
    again = None if job.spec.suspend else now
    return Decision(Goal.SUSPENDED, Reason.SUSPENDED, message, delete=observed.pods, wake_at=again)


def _is_under_way(job: RLJob) -> bool:
    told = condition(job.status, ConditionType.PROGRESSING)
    return told is not None and told.reason == Reason.SUSPENDING
