"""What a person wants to be told of, as it happens: Kubernetes Events, made from two statuses. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rljob_api.reasons import Reason
from rljob_api.status import AttemptStatus, Condition, ConditionType, Failure, Status

from .decide.hindrance import OF_PODS
from .status_reading import condition

Kind = Literal["Normal", "Warning"]


@dataclass(frozen=True)
class Telling:
    """A move of a condition that is told. `docs/events-and-metrics.md` is made from these."""

    condition: ConditionType
    kind: Kind
    status: str = ""
    """That it moves to; any, if empty."""
    only: frozenset[Reason] = frozenset()
    """Reasons that it moves to; any, if empty."""
    but: frozenset[Reason] = frozenset()
    """Reasons that say no more than the numbers do."""
    action: str = "Watch"

    def holds(self, new: Condition) -> bool:
        return (
            new.type is self.condition
            and self.status in ("", new.status)
            and (not self.only or new.reason in self.only)
            and new.reason not in self.but
        )


TELLINGS = (
    Telling(ConditionType.ACCEPTED, "Warning", status="False"),
    Telling(ConditionType.PODS_READY, "Normal", status="True"),
    Telling(
        ConditionType.PODS_READY,
        "Warning",
        status="False",
        but=frozenset({Reason.SOME_NOT_READY}),
        action="Start",
    ),
    # an attempt's end is told with the next one's start
    Telling(
        ConditionType.PROGRESSING,
        "Warning",
        status="False",
        only=frozenset({Reason.GANG_STOPPING, Reason.BACK_OFF, Reason.STALLED, Reason.VOLUME_UNUSABLE}),
    ),
    Telling(ConditionType.PROGRESSING, "Warning", only=frozenset({Reason.NODE_LOST})),
    # all pods are given back: the job waits for room, or for a person
    Telling(
        ConditionType.PROGRESSING,
        "Warning",
        status="False",
        only=OF_PODS | {Reason.EXACTNESS_UNMET},
        action="GiveBack",
    ),
    Telling(
        ConditionType.CHECKPOINT_READY,
        "Warning",
        only=frozenset({Reason.GRACE_PERIOD_TOO_SHORT, Reason.CHECKPOINT_PASSED_OVER, Reason.SAVE_FAILED}),
    ),
    Telling(ConditionType.CHECKPOINT_READY, "Normal", status="True"),
    Telling(
        ConditionType.RESUME_EXACT,
        "Warning",
        only=frozenset({Reason.BEST_EFFORT, Reason.EXACTNESS_UNREACHABLE}),
        action="Resume",
    ),
    Telling(ConditionType.RESUME_EXACT, "Normal", but=frozenset({Reason.NOT_RESUMED}), action="Resume"),
    Telling(ConditionType.SUSPENDED, "Normal", status="True"),
    Telling(ConditionType.COMPLETE, "Normal", status="True"),
    Telling(ConditionType.FAILED, "Warning", status="True"),
)
"""The first that holds is told, under the condition's reason."""


WHY_ANOTHER: dict[str, str] = {
    Reason.RESUMED: "it had been suspended, stopped or over",
    Reason.PREEMPTED: "the cluster took a trainer pod away, or told it to go",
    Reason.PODS_GONE: "trainer pods were gone",
    Reason.POD_FAILED: "a trainer pod failed",
    Reason.POD_FAILED_IGNORED: "a trainer pod failed",
    Reason.STALLED: "no rank showed a sign of life",
    Reason.VOLUME_UNUSABLE: "the volume was full or failing",
    Reason.QUOTA_EXCEEDED: "the quota had no room",
    Reason.UNSCHEDULABLE: "no node had room",
    Reason.EXACTNESS_UNMET: "it could not go on as exactly as asked",
}
"""Why an attempt followed another, for people."""
WITHOUT_MESSAGE: dict[str, str] = {Reason.ALL_STEPS_RAN: "All steps ran."}
"""What is told of a condition that needs no message."""


@dataclass(frozen=True)
class Happening:
    type: Kind
    reason: str
    """A `Reason`."""
    action: str
    """What the operator was about, in one CamelCase word."""
    note: str
    time: str = ""
    """When, of what can happen again in the same words."""


def happenings(before: Status | None, after: Status) -> Iterator[Happening]:
    """What came about between two statuses of a job, each once, causes first."""
    old = before or Status()
    for failure in after.failures:
        if failure not in old.failures:
            yield _failed(failure)
    if after.attempt is not None and (old.attempt is None or after.attempt.number > old.attempt.number):
        yield _started(after.attempt)
    if after.rollout.restarts > old.rollout.restarts:
        note = f"A rollout server was replaced; trainers keep their state ({after.rollout.restarts} so far)."
        yield Happening("Warning", Reason.ROLLOUT_REPLACED, "Replace", note)
    for new in after.conditions:
        was = condition(before, new.type)
        if was is None or (was.status, was.reason) != (new.status, new.reason):
            yield from _moved(new)


def _started(attempt: AttemptStatus) -> Happening:
    first = attempt.reason in (Reason.FIRST_ATTEMPT, Reason.RESUMED)
    why = WHY_ANOTHER.get(attempt.reason, attempt.reason)
    note = f"Attempt {attempt.number} starts" + (
        "." if attempt.reason == Reason.FIRST_ATTEMPT else f": {why}."
    )
    return Happening("Normal" if first else "Warning", Reason.ATTEMPT_STARTED, "Start", note)


def _failed(failure: Failure) -> Happening:
    code = "" if failure.exit_code is None else f", exit code {failure.exit_code}"
    note = f"{failure.who} failed in attempt {failure.attempt}{code}: {failure.message}"
    return Happening("Warning", Reason.POD_FAILED, "Watch", note, failure.time)


def _moved(new: Condition) -> Iterator[Happening]:
    telling = next((one for one in TELLINGS if one.holds(new)), None)
    if telling is not None:
        note = new.message or WITHOUT_MESSAGE.get(new.reason, f"{new.type}: {new.reason}")
        yield Happening(telling.kind, new.reason, telling.action, note)
