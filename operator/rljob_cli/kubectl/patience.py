"""How long a command that watches a job goes on while the API server does not answer. `wait.py` and `follow.py` ask."""

from __future__ import annotations

import sys
import time

from ..errors import UserMistake
from ..words import duration

PATIENCE_SECONDS = 600.0
"""An API server that is upgraded, or moves to another machine, is back by then."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 15.0


class Patience:
    """Spent by refusals in a row, restored by an answer; both are told on the standard error."""

    def __init__(self, seconds: float = PATIENCE_SECONDS) -> None:
        self._seconds = seconds
        self._lost_at: float | None = None
        """Monotonic time since which nothing was answered."""
        self._pause = FIRST_PAUSE_SECONDS

    def restore(self) -> None:
        """An answer came."""
        if self._lost_at is not None:
            _tell("the API server answers again")
        self._lost_at, self._pause = None, FIRST_PAUSE_SECONDS

    def spend(self, trouble: UserMistake) -> float:
        """Seconds until the next try. Raises `trouble` when there were enough."""
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            _tell(
                f"{trouble}; the job does not need this command: trying again for {duration(self._seconds)}"
            )
        if now - self._lost_at >= self._seconds:
            raise trouble
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return min(pause, self._lost_at + self._seconds - now)


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
