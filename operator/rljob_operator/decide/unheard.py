"""Trainers that run, and of which nothing was heard for long: cut off or hung, which cannot be told from outside.

Nothing is done about it here: trainers that hang notice it themselves, and those that are cut off go on when they are
reached again.
"""

from __future__ import annotations

from dataclasses import dataclass

from rljob_api.job import RLJob

from .. import times
from ..observed import Observed

PATIENCE_SECONDS = 120
"""More than clocks of two machines differ, and than any phase is without a sign of life in good health."""


def unheard(job: RLJob, observed: Observed, now: float) -> str:
    """Since when, and what to look at; empty if something was heard lately, or nothing was to be heard."""
    heard, leader = _heard(job, observed), observed.leader(job.attempt_number)
    if heard is None or leader is None or now < heard.at + PATIENCE_SECONDS:
        return ""
    return (
        f"No sign of life from {leader.name} since {times.to_text(heard.at)}, in phase {heard.phase}. "
        f"If it cannot be reached, it goes on by itself once it can be; if it hangs, it notices (spec.stall) and "
        f"restarts. `kubectl logs {leader.name}` tells."
    )


def until_unheard(job: RLJob, observed: Observed, now: float) -> float | None:
    """When patience ends if nothing is heard until then."""
    heard = _heard(job, observed)
    if heard is None or observed.leader(job.attempt_number) is None:
        return None
    due = heard.at + PATIENCE_SECONDS
    return due if due > now else None


@dataclass(frozen=True)
class _Heard:
    """The last sign of life."""

    at: float
    """Seconds since the epoch."""
    phase: str


def _heard(job: RLJob, observed: Observed) -> _Heard | None:
    """None until the attempt has told something. An operator that began since then has waited only so long itself.

    A conversion that is over has told all that it had to tell, and its pod's ranks nothing yet.
    """
    progress, attempt = observed.progress, job.attempt
    if attempt is None or (progress is not None and observed.converted(progress)):
        return None
    if progress is not None and progress.attempt == attempt.number:
        return _Heard(progress.heartbeat, progress.phase.value)
    told = job.status.progress if job.status else None
    if not attempt.has_begun or told is None or not told.last_updated_time:
        return None
    return _Heard(max(observed.listening_since, times.to_seconds(told.last_updated_time)), told.phase)
