"""How long a server may have prompts in hand and answer none. Pure.

Its `/weight_info` goes on answering when only the engine behind it hangs. `stall.phaseTimeoutSeconds` is the limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rljob_api.progress import TrainPhase
from rljob_api.stall import PhaseTimeouts
from rljob_trainer.stall.limits import Limits


@dataclass
class Patience:
    """With all servers, in one phase."""

    limits: Limits = field(default_factory=lambda: Limits(PhaseTimeouts()))
    phase: TrainPhase = TrainPhase.GENERATE
    _since: dict[int, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.limits.of(self.phase)

    def asked(self, index: int, now: float) -> None:
        """A server was given a prompt; if it has others in hand, it is waited for already."""
        self._since.setdefault(index, now)

    def answered(self, index: int, now: float) -> None:
        """A server answered a prompt."""
        self.limits.note(self.phase, now - self._since.get(index, now))
        self._since[index] = now

    def exhausted(self, busy: Iterable[int], now: float) -> list[int]:
        """Of the servers with prompts in hand, those that have answered nothing for too long; the others are idle."""
        self._since = {index: self._since.get(index, now) for index in busy}
        return [index for index, since in self._since.items() if now - since > self.seconds]
