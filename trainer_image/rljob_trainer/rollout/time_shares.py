"""What each request took of the time in which many were in flight. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TimeShares:
    """Each moment is divided equally over what is in flight, so that all shares add up to the time that passed."""

    _begun: dict[str, float] = field(default_factory=dict)
    """What is in flight, with `_each` at its begin."""
    _each: float = 0.0
    """What a request would have taken so far that was in flight from the first moment."""
    _at: float = 0.0

    def begin(self, key: str, now: float) -> None:
        """`now` in seconds of any clock."""
        self._pass(now)
        self._begun[key] = self._each

    def end(self, key: str, now: float) -> float:
        """Its share, in seconds."""
        self._pass(now)
        return self._each - self._begun.pop(key)

    def _pass(self, now: float) -> None:
        if self._begun:
            self._each += (now - self._at) / len(self._begun)
        self._at = now
