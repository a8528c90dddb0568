"""When a checkpoint is due: every `savePeriod` steps and after the last; one that failed, soon again. Pure.

The loop asks after each step.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SaveDue:
    """Of one attempt."""

    period: int
    last: int
    """Step after which training is over."""
    _again: int | None = None
    _wait: int = 1

    def take(self, step: int) -> bool:
        """Whether to save after this step. A save that failed is taken up once, and again only if it fails again."""
        again = self._again is not None and step >= self._again
        if again:
            self._again = None
        return again or step % self.period == 0 or step == self.last

    def failed(self, step: int) -> None:
        """Try again after 1, 2, 4, … more steps, never more than `period`: a save that fails costs time, too."""
        self._again = step + self._wait
        self._wait = min(2 * self._wait, self.period)

    def saved(self) -> None:
        """There is a checkpoint: the next failure is a first one again."""
        self._again, self._wait = None, 1
