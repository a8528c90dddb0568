"""What the kernel says of a process: of any, not only of a child."""

from __future__ import annotations

from pathlib import Path


def alive(pid: int) -> bool:
    """Running: a zombie, which only waits for its parent or for init to take notice, is not."""
    return _after_its_name(pid)[0] not in "ZX"


def parent(pid: int) -> int:
    """0 where there is no such process."""
    return int(_after_its_name(pid)[1])


def age_order(pid: int) -> tuple[int, int]:
    """Sorts processes, the oldest first: numbers alone do not, for the kernel begins again with the lowest."""
    return int(_after_its_name(pid)[STARTED]), pid


STARTED = 19
"""Where the time of its start is, in ticks since the machine's, 22nd of all of `stat`."""


def _after_its_name(pid: int) -> list[str]:
    """State, parent and on, as proc(5) has them in `stat`; the name before them may hold spaces and brackets."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", *["0"] * STARTED]
    return stat.rpartition(")")[2].split()
