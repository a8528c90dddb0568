"""`status.conditions`, as metav1.Condition: a time moves only when its status moves."""

from __future__ import annotations

from rljob_api.base import shortened
from rljob_api.exactness import unreachable
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.progress import MESSAGE_LIMIT
from rljob_api.reasons import Reason
from rljob_api.status import Condition, ConditionType, Exactness, Status

from . import times
from .decide import Decision, Goal
from .decide.hindrance import Hindrance
from .grace import too_short
from .observed import Observed
from .status_reading import condition


def conditions(
    job: RLJob,
    facts: Status,
    observed: Observed,
    decision: Decision,
    now: float,
    *,
    hindrance: Hindrance | None,
    broken_rules: str,
) -> list[Condition]:
    """All of them, always in the same order. `facts` is the rest of the new status; `hindrance` is what is in the way,
    and `broken_rules` what the job breaks of rules that came after it began.
    """
    completes, fails = decision.goal is Goal.COMPLETE, decision.goal is Goal.FAIL
    still = bool(facts.completion_time)
    found = [
        _accepted(job, hindrance, broken_rules),
        _pods_ready(job, facts, hindrance),
        _progressing(decision),
        _checkpoint_ready(job, facts, observed),
        _resume_exact(job, facts, observed),
        _reached(ConditionType.SUSPENDED, decision.goal is Goal.SUSPENDED, decision),
        _reached(ConditionType.SUCCESS_CRITERIA_MET, completes, decision),
        _reached(ConditionType.COMPLETE, completes and still, decision),
        _reached(ConditionType.FAILURE_TARGET, fails, decision),
        _reached(ConditionType.FAILED, fails and still, decision),
    ]
    return [dated(job.status, one, job.metadata.generation, now) for one in found]


def dated(before: Status | None, new: Condition, generation: int, now: float) -> Condition:
    """`new` as of that generation: `kubectl wait` passes over a condition that is older than the spec."""
    old = condition(before, new.type)
    unmoved = old is not None and old.status == new.status
    since = old.last_transition_time if old is not None and unmoved else times.to_text(now)
    return new.model_copy(update={"last_transition_time": since, "observed_generation": generation})


def _make(kind: ConditionType, holds: bool, reason: str, message: str = "") -> Condition:
    return Condition(type=kind, status="True" if holds else "False", reason=reason, message=message)


def _accepted(job: RLJob, hindrance: Hindrance | None, broken_rules: str) -> Condition:
    """Not if it breaks a rule that came after it began, or if the cluster refuses what only a person can put right."""
    if broken_rules:
        return _make(ConditionType.ACCEPTED, False, Reason.INVALID, shortened(broken_rules, MESSAGE_LIMIT))
    if hindrance is not None and hindrance.lasting:
        return _make(ConditionType.ACCEPTED, False, hindrance.reason, hindrance.message)
    return _make(ConditionType.ACCEPTED, True, Reason.VALID, job.spec.backend_choice)


def _pods_ready(job: RLJob, facts: Status, hindrance: Hindrance | None) -> Condition:
    ready = (
        facts.trainer.ready_replicas >= job.spec.trainer.num_nodes
        and facts.rollout.ready_replicas >= job.spec.rollout.replicas
    )
    if hindrance is not None and not ready:
        return _make(ConditionType.PODS_READY, False, hindrance.reason, hindrance.message)
    message = f"trainers {facts.trainer.ready}, rollouts {facts.rollout.ready}"
    if facts.completion_time:
        message = "The job is over, and needs no pods."
    reason = Reason.ALL_READY if ready else Reason.SOME_NOT_READY
    return _make(ConditionType.PODS_READY, ready, reason, message)


def _progressing(decision: Decision) -> Condition:
    running = decision.goal is Goal.RUN
    return _make(ConditionType.PROGRESSING, running, decision.reason, decision.message)


def _checkpoint_ready(job: RLJob, facts: Status, observed: Observed) -> Condition:
    """Its message also tells of a save that failed, of checkpoints that this attempt has passed over, and of a grace
    period that is too short."""
    told = observed.progress
    known = condition(job.status, ConditionType.CHECKPOINT_READY)
    if told is None and known is not None and known.reason in HEARD and _same_checkpoints(job, facts):
        return known
    latest, skipped = facts.checkpoint.latest, told.skipped_checkpoints if told else []
    failed = [told.save_failure] if told and told.save_failure else []
    if latest is None:
        none = _worst(failed, skipped, []) or Reason.NONE_YET
        message = " ".join([f"No checkpoint {'is left' if skipped else 'was saved yet'}.", *failed, *skipped])
        return _make(ConditionType.CHECKPOINT_READY, False, none, shortened(message, MESSAGE_LIMIT))
    seconds = facts.checkpoint.save_seconds
    short = [*filter(None, [too_short(job.spec.checkpoint, seconds, _grace_of_trainers(observed))])]
    more = [*failed, *skipped, *short]
    message = " ".join([f"The newest checkpoint is step {latest.step}.", *more])
    whole = Reason.CHECKPOINT_PASSED_OVER if latest.damaged else Reason.WHOLE
    reason = _worst(failed, skipped, short) or whole
    return _make(
        ConditionType.CHECKPOINT_READY, not latest.damaged, reason, shortened(message, MESSAGE_LIMIT)
    )


def _grace_of_trainers(observed: Observed) -> int | None:
    """The shortest that a pod has; None if none runs, and the next ones get what the spec says."""
    pods = (pod for pod in observed.role(RoleName.TRAINER) if not pod.ended)
    return min((pod.grace_seconds for pod in pods if pod.grace_seconds is not None), default=None)


HEARD = (Reason.SAVE_FAILED, Reason.CHECKPOINT_PASSED_OVER)
"""Of `CheckpointReady`, what rank 0 alone knows: an operator that has not heard of it takes nothing back."""


def _same_checkpoints(job: RLJob, facts: Status) -> bool:
    return job.status is not None and job.status.checkpoint == facts.checkpoint


def _worst(failed: list[str], skipped: list[str], short: list[str]) -> Reason | None:
    """What asks most of a person, by the sentences that tell of it."""
    if failed:
        return Reason.SAVE_FAILED
    if skipped:
        return Reason.CHECKPOINT_PASSED_OVER
    return Reason.GRACE_PERIOD_TOO_SHORT if short else None


def _resume_exact(job: RLJob, facts: Status, observed: Observed) -> Condition:
    """False from the beginning if the job asks for what no restart of it can be."""
    attempt, told = facts.attempt, observed.progress
    if (attempt is None or attempt.exactness is None) and (why := unreachable(job.spec)):
        return _make(ConditionType.RESUME_EXACT, False, Reason.EXACTNESS_UNREACHABLE, why)
    if attempt is None or attempt.exactness is None:
        return Condition(type=ConditionType.RESUME_EXACT, status="Unknown", reason=Reason.NOT_RESUMED)
    exact, reason = attempt.exactness is Exactness.EXACT, attempt.exactness.value
    if told is not None and told.attempt == attempt.number and told.resumed:
        return _make(ConditionType.RESUME_EXACT, exact, reason, told.resumed.told)
    known = condition(job.status, ConditionType.RESUME_EXACT)
    same = known is not None and known.reason == reason and job.attempt_number == attempt.number
    return _make(ConditionType.RESUME_EXACT, exact, reason, known.message if known and same else "")


def _reached(kind: ConditionType, reached: bool, decision: Decision) -> Condition:
    if reached:
        return _make(kind, True, decision.reason, decision.message)
    return _make(kind, False, Reason.NOT_REACHED)
