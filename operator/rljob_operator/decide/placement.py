"""A gang that cannot be placed as a whole gives its pods back, so that others may use their nodes, and tries later."""

from __future__ import annotations

from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.reasons import Reason
from rljob_api.status import AttemptStatus

from .. import times
from ..observed import Observed, Pod
from .decision import Decision, GivenBack, Goal
from .finish import to_stop
from .hindrance import hindrance, unplaced

REFUSAL_PATIENCE_SECONDS = 30
"""A quota is free again at once, or not soon."""
PLACEMENT_PATIENCE_SECONDS = 600
"""An autoscaler brings a node with GPUs in this time, and needs to see pods that wait."""
LONGEST_PAUSE_SECONDS = 300


def give_back(job: RLJob, attempt: AttemptStatus, observed: Observed, now: float) -> Decision | None:
    """A decision if the attempt cannot be placed: what it holds goes, or when to look again."""
    due = _due(attempt, observed)
    if due is None or attempt.from_step is not None:
        return None
    found = hindrance(observed)
    message = found.message if found else ""
    if now < due:
        return Decision(Goal.RUN, attempt.reason, wake_at=due)
    reason = found.reason if found else Reason.UNSCHEDULABLE
    again = times.to_text(now + pause(attempt))
    said = f"{message} All pods were given back; the next try is at {again}."
    back = GivenBack(reason.value, times.to_text(now))
    return Decision(Goal.WAIT, reason, said, delete=to_stop(observed.pods), give_back=back)


def pause(attempt: AttemptStatus) -> float:
    """Seconds from giving back to the next try: doubles with each try in a row."""
    return float(min(REFUSAL_PATIENCE_SECONDS * 2 ** min(attempt.tries_in_a_row, 16), LONGEST_PAUSE_SECONDS))


def _due(attempt: AttemptStatus, observed: Observed) -> float | None:
    """When patience ends; None if everything was, or may still be, placed."""
    if observed.refusal is not None and observed.refusal.kind == "Pod":
        begun = times.to_seconds(attempt.started_time) if attempt.started_time else observed.refusal.since
        return max(begun, observed.refusal.since) + REFUSAL_PATIENCE_SECONDS
    waiting = [pod for pod in _gang(attempt, observed) if unplaced(pod)]
    if not waiting or not any(pod.node for pod in observed.pods if not pod.ended):
        return None  # it holds nothing that another could use
    return min(pod.created_at or 0.0 for pod in waiting) + PLACEMENT_PATIENCE_SECONDS


def _gang(attempt: AttemptStatus, observed: Observed) -> list[Pod]:
    """Its trainers, and all servers: too few of them let the trainers wait as well."""
    return [pod for pod in observed.pods if pod.role is RoleName.ROLLOUT or pod.attempt == attempt.number]
