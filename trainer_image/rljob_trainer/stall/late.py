"""Which rank is late. Pure: the others wait for it, so they look just as silent."""

from __future__ import annotations

from collections.abc import Mapping

from .pulse import Beat
from .stacks import Frame, Stack

KERNEL = "TD"
"""States of a process that does nothing at all: stopped, or stuck in the kernel."""


def late(beats: Mapping[int, Beat], stacks: Mapping[int, Stack]) -> int:
    """The rank that the others wait for: one that is stopped or stuck in the kernel, else one that is in no collective,
    else the one with the fewest signs of life; of several alike the one that was silent first."""

    def order(rank: int) -> tuple[bool, bool, bool, int, float, int]:
        stack, beat = stacks[rank], beats.get(rank)
        waits = beat is not None and beat.phase is None
        count, at = (beat.count, beat.at) if beat else (0, 0.0)
        return (stack.state not in KERNEL, waits, stack.may_wait_for_others, count, at, rank)

    return min(stacks, key=order)


def all_wait(beats: Mapping[int, Beat], stacks: Mapping[int, Stack]) -> bool:
    """Whether the late rank is on another node, as far as can be seen from here."""
    return all(
        stack.may_wait_for_others or ((beat := beats.get(rank)) is not None and beat.phase is None)
        for rank, stack in stacks.items()
    )


def where(stack: Stack) -> str:
    """The innermost Python frame, and the nearest one outside of libraries if that is another."""
    frames = stack.frames
    if not frames:
        return ""
    own = next((frame for frame in frames if not _is_library(frame)), frames[0])
    return str(frames[0]) if own == frames[0] else f"{frames[0]}, called from {own}"


def _is_library(frame: Frame) -> bool:
    return "/lib/python" in frame.file or frame.file.startswith("<")
