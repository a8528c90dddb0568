"""`activeDeadlineSeconds` and `preRunningDeadlineSeconds`. Their clock starts with the job, and anew on a resume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rljob_api.job import RLJob
from rljob_api.reasons import Reason

from .. import times
from ..observed import Observed
from .decision import Decision
from .finish import fail


def overdue(job: RLJob, observed: Observed, now: float) -> Decision | None:
    """The job fails: a deadline has passed."""
    for due, reason, message in _deadlines(job):
        if now >= due:
            return fail(observed, reason, message)
    return None


def until_deadline(job: RLJob, decision: Decision) -> Decision:
    """`decision`, to be looked at again when a deadline passes."""
    ahead = [due for due, _, _ in _deadlines(job)]
    known = [decision.wake_at] if decision.wake_at is not None else []
    return replace(decision, wake_at=min([*known, *ahead], default=None))


def _deadlines(job: RLJob) -> Iterator[tuple[float, Reason, str]]:
    status, spec = job.status, job.spec
    if status is None or not status.start_time:
        return
    start = times.to_seconds(status.start_time)
    if spec.active_deadline_seconds is not None:
        message = f"The job took longer than activeDeadlineSeconds {spec.active_deadline_seconds}."
        yield start + spec.active_deadline_seconds, Reason.DEADLINE_EXCEEDED, message
    wait = spec.pre_running_deadline_seconds
    if wait is not None and not status.running_time:
        message = f"Training did not run within preRunningDeadlineSeconds {wait}." + _because(status.message)
        yield start + wait, Reason.PRE_RUNNING_DEADLINE_EXCEEDED, message


def _because(message: str) -> str:
    return f" Last seen: {message}" if message else ""
