"""How a process keeps its memory. Called once by the trainer's launcher, before it forks, and in each vLLM process."""

from __future__ import annotations

import ctypes
import gc

# Options of glibc's mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Use memory that was freed again, and do not hand it back to the kernel; forked processes inherit this.

    Weights, gradients and activations come and go in blocks of many megabytes. By default glibc maps each anew, and
    the page faults take six times as long as copying what is put there. Peak memory stays what it was. Another C
    library is left as it is.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(TRIM_THRESHOLD, LARGEST)
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        libc.mallopt(ARENA_MAX, 1)  # the arenas of threads hold no block above 64 MiB


def freeze_imports() -> None:
    """Keep garbage collections from walking through all that has been imported so far, in each of them anew."""
    gc.collect()
    gc.freeze()
