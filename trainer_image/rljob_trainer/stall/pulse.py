"""What each rank is doing and when it last got on, in memory that the ranks share with their parent.

A beat costs a microsecond and no system call. `time.monotonic` is one clock for all processes of a machine.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from rljob_api.progress import TrainPhase

SLOT_BYTES = 256
_SEQUENCE = struct.Struct("=Q")
_BEAT = struct.Struct("=dqqh200s")
_PHASES = list(TrainPhase)
_WAITING = -1


@dataclass(frozen=True)
class Beat:
    """The last sign of life of one rank."""

    at: float
    """`time.monotonic()`; 0 before the first."""
    count: int
    """Signs of life so far."""
    step: int
    """Finished steps."""
    phase: TrainPhase | None
    """None while it waits for what rank 0, or the first rank of its node, does alone."""
    detail: str
    """What it is busy with, at most 200 bytes."""


class Pulse:
    """One rank's slot. One writer at a time; a reader elsewhere sees the old beat or the new one, never a mixture."""

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory, self._offset = memory, offset
        self._count = 0

    def beat(self, phase: TrainPhase | None, step: int, detail: str, now: float) -> None:
        """A sign of life at `now`. The slot's number is odd while it is written."""
        self._count += 1
        code = _WAITING if phase is None else _PHASES.index(phase)
        _SEQUENCE.pack_into(self._memory, self._offset, 2 * self._count - 1)
        told = detail.encode(errors="replace")[:200]
        _BEAT.pack_into(self._memory, self._offset + _SEQUENCE.size, now, self._count, step, code, told)
        _SEQUENCE.pack_into(self._memory, self._offset, 2 * self._count)

    def read(self) -> Beat | None:
        """The last beat; None if it is being written just now."""
        before = _SEQUENCE.unpack_from(self._memory, self._offset)
        at, count, step, code, detail = _BEAT.unpack_from(self._memory, self._offset + _SEQUENCE.size)
        if before != _SEQUENCE.unpack_from(self._memory, self._offset) or before[0] % 2:
            return None
        phase = None if code == _WAITING else _PHASES[code]
        return Beat(at, count, step, phase, detail.rstrip(b"\0").decode(errors="replace"))


def pulses(ranks: int) -> list[Pulse]:
    """Slots for so many ranks. Made before the fork; the memory goes with the last process that has it."""
    memory = mmap.mmap(-1, max(1, ranks) * SLOT_BYTES)
    return [Pulse(memory, index * SLOT_BYTES) for index in range(ranks)]
