"""Python stacks of the ranks, taken by a signal: the handler runs in C, so a rank in a blocked collective, in a write
or with the interpreter lock held tells as well. No ptrace, no rights, nothing to install.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SIGNAL = signal.SIGUSR2
"""Asks a rank for its stacks. Nothing else in a rank uses it; vLLM runs in pods of its own."""
ANSWER_SECONDS = 5.0
"""A rank that has not told by then cannot: it is stuck inside the kernel."""
POLL_SECONDS = 0.02
THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+.*:$", re.MULTILINE)
FRAME = re.compile(r'^  File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>.*)$', re.MULTILINE)
COLLECTIVES = re.compile(r"torch/(distributed|_C/_distributed|autograd/graph)")
"""Where a rank may be waiting for the others."""


@dataclass(frozen=True)
class Frame:
    """One line of a Python stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.function} ({'/'.join(Path(self.file).parts[-2:])}:{self.line})"


@dataclass(frozen=True)
class Stack:
    """What one rank was doing."""

    text: str
    """All threads, as faulthandler writes them; empty when the rank did not answer."""
    state: str
    """Of the process, as in proc(5): `T` is stopped, `D` is inside the kernel and cannot be killed."""

    @property
    def frames(self) -> list[Frame]:
        """Of the main thread, the innermost first: faulthandler writes it last."""
        threads = THREAD.split(self.text)
        return [Frame(f["file"], int(f["line"]), f["function"]) for f in FRAME.finditer(threads[-1])]

    @property
    def may_wait_for_others(self) -> bool:
        """Whether it is in a collective, as far as Python can see."""
        return self.state not in "TD" and any(COLLECTIVES.search(frame.file) for frame in self.frames[:6])


def listen(path: Path) -> None:
    """In a rank, first of all: write stacks to `path` whenever the signal comes. The file stays open for good."""
    file = path.open("w")
    faulthandler.register(SIGNAL, file=file, all_threads=True, chain=False)


def take(pids: Mapping[int, int], files: Mapping[int, Path]) -> dict[int, Stack]:
    """The stacks of the ranks (rank → process), which are about to be killed.

    A stopped process can tell nothing before it goes on. The others are stopped first: else all of them would go on
    together, and finish a step that is lost with them.
    """
    states = {rank: state_of(pid) for rank, pid in pids.items()}
    stopped = {rank: pid for rank, pid in pids.items() if states[rank] == "T"}
    texts = _told({rank: pid for rank, pid in pids.items() if rank not in stopped}, files)
    if stopped:
        _signal(pids, signal.SIGSTOP)
        _signal(stopped, signal.SIGCONT)
        texts |= _told(stopped, files)
    return {rank: Stack(texts[rank], states[rank]) for rank in pids}


def _told(pids: Mapping[int, int], files: Mapping[int, Path]) -> dict[int, str]:
    _signal(pids, SIGNAL)
    deadline = time.monotonic() + ANSWER_SECONDS
    while not all(_is_whole(files[rank]) for rank in pids) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return {rank: files[rank].read_text(errors="replace") if files[rank].exists() else "" for rank in pids}


def _signal(pids: Mapping[int, int], number: int) -> None:
    for pid in pids.values():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_whole(path: Path) -> bool:
    """Whether stacks are there and have stopped growing."""
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return False
    time.sleep(POLL_SECONDS)
    return path.stat().st_size == size


def state_of(pid: int) -> str:
    """The letter of proc(5), empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def bytes_moved(pid: int) -> int:
    """Bytes that a process has read and written so far, 0 if it cannot be seen."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    facts = dict(line.split(": ") for line in lines)
    return int(facts["rchar"]) + int(facts["wchar"])
