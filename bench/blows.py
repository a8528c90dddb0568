"""Which blow comes when, and what is noted of it. Pure: everything follows from the number of the kill."""

from __future__ import annotations

import random
from typing import Literal

from rljob_api.base import Record
from rljob_api.progress import TrainPhase

How = Literal["SIGTERM", "SIGKILL"]
Target = Literal["rank 0", "rank 1", "pod"]
START = "Start"
"""From the fork of the ranks until rank 0 tells anything."""
DTENSOR = (START, "Prepare", "Load", "Sync", "Generate", "Reward", "Train", "Save", "Train", "Export")
PHASES = {"dtensor": DTENSOR, "megatron": (START, "Convert", *DTENSOR[1:])}
"""Taken in turn. Whoever trains for long is hit there most, so it comes twice."""
LATE_SECONDS = {START: 0.6, TrainPhase.CONVERT: 0.6}
"""A blow falls up to so long after its phase was seen; by default:"""
LATE = 0.08


class Blow(Record):
    """What is done to an attempt, and where."""

    how: How
    target: Target
    """Who gets the signal; a pod's SIGTERM goes to its first process, its SIGKILL to all of them at once."""
    phase: str
    steps: int
    """Of this attempt, to be finished first."""
    late: float
    """Seconds in the phase."""
    again: float | None
    """The same signal once more, so many seconds later."""


class Kill(Record):
    """A blow, and what the volume held once the attempt had ended. A line of the record."""

    number: int
    life: int
    attempt: int
    blow: Blow
    hit: str
    """The phase that it fell in, as last told."""
    exit_code: int
    finished: int
    """Last step that was finished."""
    saved: int
    """Step of the newest checkpoint."""

    @property
    def lost(self) -> int:
        """Finished steps that are done again."""
        return self.finished - self.saved


class Life(Record):
    """A job that was killed again and again until it was complete. A line of the record."""

    number: int
    attempts: int
    differences: list[str]
    """From the run that nothing interrupted."""


def blow(backend: str, number: int) -> Blow:
    """The blow of that number: one SIGTERM, one SIGKILL in turn, each through all phases."""
    dice = random.Random(f"{backend}-{number}")
    phases = PHASES[backend]
    phase = phases[number // 2 % len(phases)]
    how: How = "SIGKILL" if number % 2 else "SIGTERM"
    return Blow(
        how=how,
        target=dice.choice(["rank 0", "rank 1", "pod"]),
        phase=phase,
        steps=0 if phase in {START, "Convert", "Prepare", "Load"} else dice.choice([0, 0, 1, 2]),
        late=dice.uniform(0, LATE_SECONDS.get(phase, LATE)),
        again=dice.uniform(0, 0.5) if dice.random() < 0.25 else None,
    )
