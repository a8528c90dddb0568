"""What a job breaks of rules that came after it began: it is told, and nothing is stopped for it. Pure."""

from __future__ import annotations

from rljob_api.job import RLJob
from rljob_api.rules import broken_rules, sentences

from .decide import Decision, Goal


def broken_since(job: RLJob, decision: Decision) -> str:
    """What is to be changed; empty if nothing is, or the job is over."""
    over = decision.goal in (Goal.COMPLETE, Goal.FAIL)
    return "" if over else sentences(broken_rules(job.spec))
