"""What must never be, whatever goes wrong: played schedules are held to it, and a broken one is told by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Invariant(StrEnum):
    ONE_LIVE_POD = "never two live pods of a rank in one attempt"
    ONE_ATTEMPT_TRAINS = "never a gang of two attempts that trains"
    ONE_TOKEN = "never two pods that run with different tokens"
    CHECKPOINTS_STAY = "no checkpoint is deleted"
    NO_JOB_IS_LOST = "every job comes to its end"
    NOTHING_IS_LEFT = "what has to go goes"
    ATTEMPTS_ARE_WRITTEN_FIRST = "no pod of an attempt that the status does not know"
    ATTEMPTS_RISE = "an attempt's number never falls"
    SAME_END = "the end is that of the undisturbed job"
    QUIET = "no write where nothing happens"
    PASSES_END = "no pass after pass while no time goes by"
    KNOWN_ERRORS = "no pass ends by an error that is not the API server's"


@dataclass(frozen=True)
class Violation:
    invariant: Invariant
    told: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.told}"


class BrokenError(AssertionError):
    """A schedule after which something was that must never be."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("; ".join(map(str, violations)))
        self.invariants = {one.invariant for one in violations}


@dataclass
class Record:
    """What was broken so far."""

    violations: list[Violation] = field(default_factory=list)

    def note(self, invariant: Invariant, told: str) -> None:
        self.violations.append(Violation(invariant, told))

    def demand(self, holds: bool, invariant: Invariant, told: Callable[[], str]) -> None:
        """Raises `BrokenError`, with all that was broken before, unless that holds."""
        if not holds:
            self.note(invariant, told())
            self.check()

    def check(self) -> None:
        """Raises `BrokenError` if anything was broken."""
        if self.violations:
            raise BrokenError(self.violations)
