"""`status.conditions`, as metav1.Condition: a time moves only when its status moves."""

from __future__ import annotations

from rljob_api.job import RLJob
from rljob_api.status import Condition, ConditionType, Exactness, Status

from . import times
from .decide import Decision, Goal
from .observed import Observed
from .status_reading import condition


def conditions(
    job: RLJob, facts: Status, observed: Observed, decision: Decision, now: float
) -> list[Condition]:
    """All of them, always in the same order. `facts` is the rest of the new status."""
    found = [
        _accepted(job),
        _pods_ready(job, facts),
        _progressing(decision),
        _checkpoint_ready(facts),
        _resume_exact(facts, observed),
        _reached(ConditionType.SUSPENDED, Goal.SUSPENDED, decision),
        _reached(ConditionType.COMPLETE, Goal.COMPLETE, decision),
        _reached(ConditionType.FAILED, Goal.FAIL, decision),
    ]
    return [_dated(job, one, now) for one in found]


def _dated(job: RLJob, new: Condition, now: float) -> Condition:
    old = condition(job.status, new.type)
    unmoved = old is not None and old.status == new.status
    since = old.last_transition_time if old is not None and unmoved else times.to_text(now)
    return new.model_copy(
        update={"last_transition_time": since, "observed_generation": job.metadata.generation}
    )


def _make(kind: ConditionType, holds: bool, reason: str, message: str = "") -> Condition:
    return Condition(type=kind, status="True" if holds else "False", reason=reason, message=message)


def _accepted(job: RLJob) -> Condition:
    backend = job.spec.chosen_backend.value
    explicit = job.spec.backend is not None
    message = f"backend {backend}, " + (
        "as spec.backend says" if explicit else "chosen as spec.backend is absent"
    )
    return _make(ConditionType.ACCEPTED, True, "Valid", message)


def _pods_ready(job: RLJob, facts: Status) -> Condition:
    ready = (
        facts.trainer.ready_replicas >= job.spec.trainer.num_nodes
        and facts.rollout.ready_replicas >= job.spec.rollout.replicas
    )
    message = f"trainers {facts.trainer.ready}, rollouts {facts.rollout.ready}"
    return _make(ConditionType.PODS_READY, ready, "AllReady" if ready else "SomeNotReady", message)


def _progressing(decision: Decision) -> Condition:
    running = decision.goal is Goal.RUN
    return _make(ConditionType.PROGRESSING, running, decision.reason, decision.message)


def _checkpoint_ready(facts: Status) -> Condition:
    latest = facts.checkpoint.latest
    if latest is None:
        return _make(ConditionType.CHECKPOINT_READY, False, "NoneYet", "No checkpoint was saved yet.")
    reason = "Verified" if latest.verified else "NotVerified"
    return _make(ConditionType.CHECKPOINT_READY, latest.verified, reason, f"step {latest.step}")


def _resume_exact(facts: Status, observed: Observed) -> Condition:
    attempt, told = facts.attempt, observed.progress
    if attempt is None or attempt.exactness is None:
        return Condition(type=ConditionType.RESUME_EXACT, status="Unknown", reason="NotResumed")
    current = told is not None and told.attempt == attempt.number
    message = told.resumed.reason if told is not None and told.resumed and current else ""
    exact = attempt.exactness is Exactness.EXACT
    return _make(ConditionType.RESUME_EXACT, exact, attempt.exactness.value, message)


def _reached(kind: ConditionType, goal: Goal, decision: Decision) -> Condition:
    if decision.goal is goal:
        return _make(kind, True, decision.reason, decision.message)
    return _make(kind, False, "NotReached")
