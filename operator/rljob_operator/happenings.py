"""What a person wants to be told of, as it happens: Kubernetes Events, made from two statuses. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rljob_api.reasons import Reason
from rljob_api.status import AttemptStatus, Condition, ConditionType, Failure, Status

from .status_reading import condition

GOOD = {
    ConditionType.PODS_READY: "True",
    ConditionType.CHECKPOINT_READY: "True",
    ConditionType.SUSPENDED: "True",
    ConditionType.COMPLETE: "True",
}
"""Told when it comes about."""
BAD = {ConditionType.ACCEPTED: "False", ConditionType.FAILED: "True"}
"""The same, as a warning."""
TROUBLE = frozenset({Reason.GANG_STOPPING, Reason.NODE_LOST, Reason.BACK_OFF, Reason.STALLED})
"""Reasons of `Progressing` that are told; an attempt's end is told with the next one's start."""
DOUBTS = frozenset({Reason.GRACE_PERIOD_TOO_SHORT, Reason.CHECKPOINT_PASSED_OVER})
"""Reasons of `CheckpointReady` that are told as a warning."""
WAITING = frozenset({Reason.SOME_NOT_READY, Reason.ALL_READY, Reason.NOT_REACHED})
"""Reasons of `PodsReady` that say no more than the numbers do."""


@dataclass(frozen=True)
class Happening:
    type: Literal["Normal", "Warning"]
    reason: str
    """A `Reason`."""
    action: str
    """What the operator was about, in one CamelCase word."""
    note: str


def happenings(before: Status | None, after: Status) -> Iterator[Happening]:
    """What came about between two statuses of a job, each once."""
    old = before or Status()
    if after.attempt is not None and (old.attempt is None or after.attempt.number > old.attempt.number):
        yield _started(after.attempt)
    for failure in after.failures:
        if failure not in old.failures:
            yield _failed(failure)
    if after.rollout.restarts > old.rollout.restarts:
        note = f"A rollout server was replaced; trainers keep their state ({after.rollout.restarts} so far)."
        yield Happening("Warning", Reason.ROLLOUT_REPLACED, "Replace", note)
    for new in after.conditions:
        was = condition(before, new.type)
        if was is None or (was.status, was.reason) != (new.status, new.reason):
            yield from _moved(new)


def _started(attempt: AttemptStatus) -> Happening:
    first = attempt.reason in (Reason.FIRST_ATTEMPT, Reason.RESUMED)
    note = f"Attempt {attempt.number} starts: {attempt.reason}."
    return Happening("Normal" if first else "Warning", Reason.ATTEMPT_STARTED, "Start", note)


def _failed(failure: Failure) -> Happening:
    code = "" if failure.exit_code is None else f", exit code {failure.exit_code}"
    note = f"{failure.role} {failure.rank} failed in attempt {failure.attempt}{code}: {failure.message}"
    return Happening("Warning", Reason.POD_FAILED, "Watch", note)


def _moved(new: Condition) -> Iterator[Happening]:
    note = new.message or f"{new.type}: {new.reason}"
    match new.type:
        case ConditionType.RESUME_EXACT if new.reason != Reason.NOT_RESUMED:
            kind: Literal["Normal", "Warning"] = "Warning" if new.reason == Reason.BEST_EFFORT else "Normal"
            yield Happening(kind, new.reason, "Resume", note)
        case ConditionType.CHECKPOINT_READY if new.reason in DOUBTS:
            yield Happening("Warning", new.reason, "Watch", note)
        case ConditionType.PROGRESSING if new.reason in TROUBLE:
            yield Happening("Warning", new.reason, "Watch", note)
        case ConditionType.PODS_READY if new.status == "False" and new.reason not in WAITING:
            yield Happening("Warning", new.reason, "Start", note)
        case _ if GOOD.get(new.type) == new.status:
            yield Happening("Normal", new.reason, "Watch", note)
        case _ if BAD.get(new.type) == new.status:
            yield Happening("Warning", new.reason, "Watch", note)
        case _:
            return
