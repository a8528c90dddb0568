"""The job's control Secret was deleted while pods run: what starts now would have another token than they have.

Nobody can read the old one, so no pod starts until the last of those that have it has ended; the next attempt makes a
new one for all.
"""

from __future__ import annotations

from dataclasses import replace

from rljob_api.job import RLJob
from rljob_api.reasons import Reason
from rljob_api.status import ConditionType

from ..observed import Observed, Pod
from ..status_reading import condition
from .decision import Decision, Goal
from .finish import to_stop
from .silence import waiting


def new_token(job: RLJob, observed: Observed, now: float) -> Decision | None:
    """All pods stop, trainers after saving. The attempt ends as one does that the cluster preempts."""
    living = [pod for pod in observed.pods if not pod.ended]
    why = _refused(observed) or _stopping(job, living)
    if not why or not living:
        return None
    decision = waiting(Goal.RESTART, Reason.CONTROL_SECRET_GONE, why, living, now)
    # also beside a node that is lost: by the reason the next pass knows that nothing may start yet
    return replace(decision, reason=Reason.CONTROL_SECRET_GONE, delete=to_stop(observed.pods))


def _refused(observed: Observed) -> str:
    """What the cluster said to the last pass, which asked for a pod."""
    refusal = observed.refusal
    return refusal.message if refusal and refusal.reason == Reason.CONTROL_SECRET_GONE else ""


def _stopping(job: RLJob, living: list[Pod]) -> str:
    """What the status says of it while pods are on their way out. That nobody is told to go means that new ones run."""
    told = condition(job.status, ConditionType.PROGRESSING)
    going = any(pod.terminating for pod in living)
    return told.message if told and told.reason == Reason.CONTROL_SECRET_GONE and going else ""
