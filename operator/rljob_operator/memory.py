"""How the operator's process keeps its memory. Called once, first of all, by `__main__`."""

from __future__ import annotations

import ctypes
import gc

# Options of glibc's mallopt(3).
TRIM_THRESHOLD, ARENA_MAX = -1, -8
KEPT_BYTES = 64 << 10
NEW_OBJECTS, YOUNG_ROUNDS, OLD_ROUNDS = 20_000, 20, 50
"""When Python looks for cycles of garbage. By its defaults (700, 10, 10) it looks through each page of a list again and
again while that is parsed, which takes longer than the parsing and finds nothing: JSON has no cycles."""


def give_back_freed_memory() -> None:
    """Hand memory that was freed back to the kernel.

    Each list of jobs and pods comes in pages of megabytes that are gone a moment later. By default glibc keeps what
    they took, once for each thread: 8 of 114 MiB with 1,000 jobs. Another C library is left as it is.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(ARENA_MAX, 1)
        libc.mallopt(TRIM_THRESHOLD, KEPT_BYTES)


def seldom_look_for_cycles() -> None:
    """And never among what has been imported by now."""
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, YOUNG_ROUNDS, OLD_ROUNDS)
