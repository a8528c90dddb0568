"""`spec.ttlSecondsAfterFinished`: a job that is over is deleted some time after the last of its trainers ended."""

from __future__ import annotations

from dataclasses import replace

from rljob_api.job import RLJob

from .. import times
from .decision import Decision, Goal


def with_time_to_live(job: RLJob, decision: Decision, now: float) -> Decision:
    """`decision`, with the deletion, or the time when to look again. The end itself is written in this pass at the
    earliest."""
    ttl, ended = job.spec.ttl_seconds_after_finished, job.status.completion_time if job.status else ""
    if ttl is None or decision.goal not in (Goal.COMPLETE, Goal.FAIL):
        return decision
    due = (times.to_seconds(ended) if ended else now) + ttl
    if ended and now >= due:
        return replace(decision, delete_job=True)
    return replace(decision, wake_at=min(due, decision.wake_at or due))
