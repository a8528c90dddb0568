"""Where a log that was cut is taken up again, so that no line is lost and none comes twice. `follow.py` asks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from rljob_operator import times

SEAM_SECONDS = 1
"""Read again before the last line's second: two streams of a container are not stamped quite in order."""


class Seam:
    """The last lines that were shown, with their times. A kubelet goes back to whole seconds only: what comes again
    is told by the line itself, and as often as it was shown."""

    def __init__(self) -> None:
        self._second = 0
        self._shown: list[tuple[int, str]] = []

    @property
    def since(self) -> str | None:
        """When to begin reading again; None before the first line."""
        return times.to_text(self._second - SEAM_SECONDS) if self._shown else None

    def new(self, stamped: Iterable[str]) -> Iterator[str]:
        """The lines of another reading that were not shown yet, without their times."""
        again = Counter(line for _, line in self._shown)
        for line in stamped:
            if again[line]:
                again[line] -= 1
                continue
            self._remember(line)
            yield line.partition(" ")[2] if _second(line) is not None else line

    def _remember(self, line: str) -> None:
        second = _second(line)
        if second is not None and second > self._second:
            self._second = second
            self._shown = [one for one in self._shown if one[0] >= second - SEAM_SECONDS]
        self._shown.append((self._second if second is None else second, line))


def _second(line: str) -> int | None:
    """Of a line's time; None for one that the kubelet put in itself, without."""
    try:
        return math.floor(times.to_seconds(line.partition(" ")[0]))
    except ValueError:
        return None
