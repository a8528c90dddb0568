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
from .hindrance import Hindrance, hindrance, unplaced

REFUSAL_PATIENCE_SECONDS = 30
"""A quota is free again at once, or not soon."""
PLACEMENT_PATIENCE_SECONDS = 600
"""An autoscaler brings a node with GPUs in this time, and needs to see pods that wait."""
LONGEST_PAUSE_SECONDS = 300


def give_back(job: RLJob, attempt: AttemptStatus, observed: Observed, now: float) -> Decision | None:
    """A decision if the attempt cannot be placed: what it holds goes, or when to look again."""
    due = _due(job, attempt, observed)
    if due is None or attempt.has_begun:
        return None
    if now < due:
        return Decision(Goal.RUN, attempt.reason, wake_at=due)
    found = hindrance(job, observed, now) or Hindrance(Reason.UNSCHEDULABLE, "")
    again = now + pause(attempt)
    said = f"{found.message} All pods were given back; the next try is at {times.to_text(again)}."
    back = GivenBack(str(found.reason), times.to_text(now))
    pods = to_stop(observed.pods)
    return Decision(Goal.WAIT, found.reason, said, delete=pods, give_back=back, wake_at=again)


def pause(attempt: AttemptStatus) -> float:
    """Seconds from giving back to the next try: doubles with each try in a row."""
    return float(min(REFUSAL_PATIENCE_SECONDS * 2 ** min(attempt.tries_in_a_row, 16), LONGEST_PAUSE_SECONDS))


def refused(observed: Observed) -> bool:
    """The cluster would not have one of the pods."""
    return observed.refusal is not None and observed.refusal.kind == "Pod"


def short_of_room(job: RLJob, observed: Observed) -> bool:
    """A pod was refused, or the attempt before had to give its pods back."""
    return refused(observed) or (job.attempt is not None and job.attempt.tries_in_a_row > 0)


def _due(job: RLJob, attempt: AttemptStatus, observed: Observed) -> float | None:
    """When patience ends; None if the gang was, or may still be, placed."""
    if attempt.run_config_map_name not in observed.run_config_maps:
        return _refusal_due(attempt, observed)
    waiting = _without_node(job, attempt, observed)
    if not waiting or not any(pod.node for pod in observed.pods if not pod.ended):
        return None  # it holds nothing that another could use
    return min(pod.created_at or 0.0 for pod in waiting) + PLACEMENT_PATIENCE_SECONDS


def _refusal_due(attempt: AttemptStatus, observed: Observed) -> float | None:
    if observed.refusal is None or not refused(observed):
        return None
    begun = times.to_seconds(attempt.started_time) if attempt.started_time else 0.0
    return max(begun, observed.refusal.since) + REFUSAL_PATIENCE_SECONDS


def _without_node(job: RLJob, attempt: AttemptStatus, observed: Observed) -> list[Pod]:
    """Pods of the gang: all trainers, and servers while fewer than `minReplicas` have a node."""
    servers = observed.role(RoleName.ROLLOUT)
    trainers = [pod for pod in observed.role(RoleName.TRAINER) if pod.attempt == attempt.number]
    enough = sum(bool(pod.node) for pod in servers if not pod.ended) >= job.spec.rollout.min_replicas
    return [pod for pod in (*trainers, *(() if enough else servers)) if unplaced(pod)]
