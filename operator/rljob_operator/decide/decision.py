"""What is to be done next, and why. Made by `decide`; carried out by `reconcile`; told by `status`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from rljob_api.failure import RoleName
from rljob_api.status import AttemptStatus, Failure, Replacement

from ..observed import Pod


class Goal(StrEnum):
    """Where the job is heading."""

    RUN = "Run"
    RESTART = "Restart"
    """The trainer gang is between two attempts."""
    WAIT = "Wait"
    """The gang gave its pods back: for want of room, until it tries again; or until a person has chosen."""
    SUSPEND = "Suspend"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAIL = "Fail"


class Ended(StrEnum):
    """How the attempt before the new one counts."""

    COUNTED = "Counted"
    """A failure, towards `failurePolicy.maxRestarts`."""
    IGNORED = "Ignored"
    """A failure that is not counted: a rule exempts it, or the volume is to blame."""
    PREEMPTED = "Preempted"
    """Told to go, or gone without a word."""


@dataclass(frozen=True)
class GivenBack:
    """The attempt could not be placed, or not go on as asked, and has given its pods back."""

    reason: str
    time: str


@dataclass(frozen=True)
class PodStart:
    """A pod to create, from the config of the present attempt."""

    role: RoleName
    index: int
    name: str


@dataclass(frozen=True)
class Decision:
    goal: Goal
    reason: str
    """One CamelCase word."""
    message: str = ""
    """A sentence for people, empty when all is well."""
    begin: AttemptStatus | None = None
    """The next attempt. It is written to the status first; its pods come a pass later."""
    ended: Ended | None = None
    """How the attempt that `begin` follows counts; absent for the first one and after a suspension."""
    delete: tuple[Pod, ...] = ()
    start: tuple[PodStart, ...] = ()
    failures: tuple[Failure, ...] = ()
    replacements: tuple[Replacement, ...] = ()
    """Rollout replicas to be replaced, with their new count."""
    give_back: GivenBack | None = None
    """The present attempt ends so, before it ran."""
    delete_job: bool = False
    """The job is over for as long as `ttlSecondsAfterFinished`."""
    wake_at: float | None = None
    """Look again then, even if nothing happens: seconds since the epoch."""


def also(first: Decision, *others: Decision) -> Decision:
    """All of them; goal and reason are those of `first`, the message is the first that there is."""
    every = (first, *others)
    return replace(
        first,
        message=next((one.message for one in every if one.message), ""),
        delete=tuple(pod for one in every for pod in one.delete),
        start=tuple(start for one in every for start in one.start),
        failures=tuple(failure for one in every for failure in one.failures),
        replacements=tuple(replacement for one in every for replacement in one.replacements),
        wake_at=min((one.wake_at for one in every if one.wake_at is not None), default=None),
    )
