"""Trainers that run, and of which nothing was heard for long: cut off or hung, which cannot be told from outside.

Nothing is done about it here: trainers that hang notice it themselves, and those that are cut off go on when they are
reached again.
"""

from __future__ import annotations

from rljob_api.failure import RoleName
from rljob_api.job import RLJob

from .. import times
from ..observed import Observed, Pod, PodPhase

PATIENCE_SECONDS = 120
"""More than clocks of two machines differ, and than any phase is without a sign of life in good health."""


def unheard(job: RLJob, observed: Observed, now: float) -> str:
    """Since when, and what to look at; empty if something was heard lately, or nothing was to be heard."""
    leader, progress = _leader(job, observed), observed.progress
    if leader is None or progress is None or now < progress.heartbeat + PATIENCE_SECONDS:
        return ""
    since = times.to_text(progress.heartbeat)
    return (
        f"No sign of life from {leader.name} since {since}, in phase {progress.phase.value}. "
        f"If it cannot be reached, it goes on by itself once it can be; if it hangs, it notices (spec.stall) and "
        f"restarts. `kubectl logs {leader.name}` tells."
    )


def until_unheard(job: RLJob, observed: Observed, now: float) -> float | None:
    """When patience ends if nothing is heard until then."""
    if _leader(job, observed) is None or observed.progress is None:
        return None
    due = observed.progress.heartbeat + PATIENCE_SECONDS
    return due if due > now else None


def _leader(job: RLJob, observed: Observed) -> Pod | None:
    """Rank 0's pod, while it runs and once its attempt has told something."""
    progress, attempt = observed.progress, job.status.attempt if job.status else None
    if progress is None or attempt is None or progress.attempt != attempt.number:
        return None
    leaders = (
        pod for pod in observed.role(RoleName.TRAINER) if (pod.attempt, pod.index) == (attempt.number, 0)
    )
    return next((pod for pod in leaders if pod.phase is PodPhase.RUNNING and not pod.terminating), None)
