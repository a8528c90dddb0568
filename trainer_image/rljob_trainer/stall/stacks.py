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
COLLECTIVES = re.compile(
    r"torch/(distributed/(?!checkpoint/)|_C/_distributed|autograd/graph)|megatron/core/pipeline_parallel/p2p"
)
"""Where a rank may be waiting for the others. Torch's checkpoint files are no such place: there it writes."""
BEGUN_BEFORE = re.compile(r"megatron/core/(pipeline_parallel|distributed)/")
"""Where Megatron waits, in C, for a collective that it began before. Only as the innermost frame: beneath all that a
stage computes is its schedule."""
RESULT = re.compile(r"concurrent/futures/_base\.py$")
"""Where a thread waits for what another one works out."""
WORKER = re.compile(r"(rljob_trainer/futures\.py|concurrent/futures/thread\.py):(_resolve|run)$")
"""File and function beneath such work."""


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
        """Of the main thread, the innermost first; where it waits for another's result, of that one."""
        *others, main = map(_frames, THREAD.split(self.text))  # faulthandler writes the main thread last
        if not _waits_for_result(main):
            return main
        return next((one for one in others if _works(one) and not _waits_for_result(one)), main)

    @property
    def may_wait_for_others(self) -> bool:
        """Whether it is in a collective, as far as Python can see."""
        if self.state in "TD":
            return False
        frames = self.frames
        return any(COLLECTIVES.search(frame.file) for frame in frames[:6]) or any(
            BEGUN_BEFORE.search(frame.file) for frame in frames[:1]
        )


def _frames(thread: str) -> list[Frame]:
    return [Frame(f["file"], int(f["line"]), f["function"]) for f in FRAME.finditer(thread)]


def _waits_for_result(frames: list[Frame]) -> bool:
    return any(RESULT.search(frame.file) for frame in frames[:4])


def _works(frames: list[Frame]) -> bool:
    return any(WORKER.search(f"{frame.file}:{frame.function}") for frame in frames)


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
    """A main thread that is stuck in the kernel does not take the signal. The next one goes to another thread, which
    takes both: any thread tells of all.
    """
    for number in (SIGNAL, signal.SIGSTOP, signal.SIGCONT):
        _signal(pids, number)
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
