"""What the kernel says of a process: of any, not only of a child."""

from __future__ import annotations

import signal
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


def children(pid: int) -> list[int]:
    """Those that it started and that are there, whichever of its threads did."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def same_image(pid: int, other: int) -> bool:
    """Whether one was forked from the other and has executed no program since, whatever it calls itself."""
    return Path(f"/proc/{pid}/auxv").read_bytes() == Path(f"/proc/{other}/auxv").read_bytes()


def all_pids() -> list[int]:
    """Of this machine, as it was a moment ago."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def program(pid: int) -> str:
    """Its command line; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def environment(pid: int) -> dict[str, str]:
    """What it was started with; nothing for one that has ended, or is not ours to ask."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def is_forked(pid: int) -> bool:
    """From a program that goes on as another process; the guard of a local pod also forks, and is not meant."""
    own = program(pid)
    return own != "" and own == program(parent(pid)) and "shim.py" not in own


def pending(pid: int, number: signal.Signals) -> bool:
    """Whether this signal was sent and has not reached it, as to a process that is stopped."""
    status = Path(f"/proc/{pid}/status").read_text()
    (sent,) = (line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(sent, 16) >> (number - 1) & 1)


STARTED = 19
"""Where the time of its start is, in ticks since the machine's, 22nd of all of `stat`."""


def _after_its_name(pid: int) -> list[str]:
    """State, parent and on, as proc(5) has them in `stat`; the name before them may hold spaces and brackets."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", *["0"] * STARTED]
    return stat.rpartition(")")[2].split()
