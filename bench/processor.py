"""Processor time of other processes: what the kernel has counted for them so far."""

from __future__ import annotations

import os
import time
from pathlib import Path

QUIET_SHARE = 0.15
"""Of one core, all programs that we started together: an idle API server takes about a twentieth."""
LOOK_SECONDS, PATIENCE_SECONDS = 0.5, 120.0


def processor_seconds(pid: int) -> float:
    """In user and kernel; 0 for a process that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet() -> None:
    """Until what we started has nothing left to do, so that it takes nothing from what is measured next.

    Raises `AssertionError` when it goes on for too long.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _busy() > QUIET_SHARE:
        assert time.monotonic() < deadline, "the programs that the benchmark started do not come to rest"


def _busy() -> float:
    """Cores that they keep busy, over a short time."""
    before, began = _children_seconds(), time.monotonic()
    time.sleep(LOOK_SECONDS)
    return (_children_seconds() - before) / (time.monotonic() - began)


def _children_seconds() -> float:
    lists = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return sum(processor_seconds(int(pid)) for pids in lists for pid in pids)
