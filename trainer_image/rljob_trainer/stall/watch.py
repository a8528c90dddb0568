"""Compares the silence of a node's ranks with the limits. The parent of the ranks looks here now and then. Pure but for
the pulses that it reads.

What counts is the gang: as long as any of its ranks gets on, the others may wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rljob_api.progress import TrainPhase

from .limits import Limits
from .pulse import Beat, Pulse

MOVES_BYTES = (
    TrainPhase.CONVERT,
    TrainPhase.PREPARE,
    TrainPhase.LOAD,
    TrainPhase.SAVE,
    TrainPhase.EXPORT,
)
"""Phases that read and write much: there a megabyte is a sign of life, so that a large file may take its time."""
MEGABYTE = 1 << 20

BytesMoved = Callable[[int], int]
"""Rank → bytes that its process has read and written so far."""


@dataclass(frozen=True)
class Silence:
    """Nobody of this node gets on."""

    phase: TrainPhase
    seconds: float
    limit: float
    beats: Mapping[int, Beat]
    """The last sign of life of each rank."""


@dataclass
class Watch:
    """`pulses` are those of the ranks that run; who has ended is waited for no more."""

    limits: Limits
    pulses: Mapping[int, Pulse]
    bytes_moved: BytesMoved
    _seen: dict[int, Beat] = field(default_factory=dict)
    _bytes: int = 0
    _alive_at: float = 0.0
    _phase: TrainPhase | None = None

    def look(self, now: float) -> Silence | None:
        """`now` is `time.monotonic()`. A hang, or None."""
        self._seen = {rank: beat for rank, beat in self._seen.items() if rank in self.pulses}
        self._seen |= {rank: beat for rank, pulse in self.pulses.items() if (beat := pulse.read())}
        at_work = {rank: beat for rank, beat in self._seen.items() if beat.phase is not None and beat.at}
        if not at_work:
            self._phase = None
            return None
        last = max(at_work.values(), key=lambda beat: beat.at)
        assert last.phase is not None
        self._sign(last.phase, last.at)
        if last.phase in MOVES_BYTES and self._moved(at_work):
            self._sign(last.phase, now)
        silent = now - self._alive_at
        limit = self.limits.of_gang(last.phase)
        return Silence(last.phase, silent, limit, dict(self._seen)) if silent > limit else None

    def _sign(self, phase: TrainPhase, at: float) -> None:
        """Somebody got on at `at`. The silence before it is one that the phase may have."""
        if self._phase is not None and at > self._alive_at:
            self.limits.note(self._phase, at - self._alive_at)
        self._phase, self._alive_at = phase, max(at, self._alive_at)

    def _moved(self, ranks: Mapping[int, Beat]) -> bool:
        """Whether much was read or written since it last was."""
        total = sum(self.bytes_moved(rank) for rank in ranks)
        if abs(total - self._bytes) < MEGABYTE:
            return False
        self._bytes = total
        return True
