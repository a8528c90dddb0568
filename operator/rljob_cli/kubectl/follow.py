"""`kubectl rljob logs --follow`: a thread a container, whose lines are printed by one.

A stream that ends is taken up again where it stopped while its container runs, and once more when that has ended.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import UserMistake
from .jobs import Jobs
from .log_stream import Excerpt
from .patience import Patience
from .pod_logs import Log
from .refusals import Absent, Unreachable
from .seam import Seam

LOOK_SECONDS = 2.0
"""Pause between two looks for new pods."""
SILENCE_SECONDS = 3.0
"""Once the job is over, who says nothing for so long is not waited for."""
GLANCE_SECONDS = 0.1
LINES_AHEAD = 1000
"""Lines that wait to be printed: who reads slowly slows the reading down."""


@dataclass
class _Stream:
    log: Log
    tail: int | None
    """So many last lines at the beginning; None: from its first."""
    seam: Seam = field(default_factory=Seam)
    thread: threading.Thread | None = None
    whole: bool = False
    """The present reading, or the last, ends with the container."""

    @property
    def is_read(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


def follow(jobs: Jobs, job: str, logs: Callable[[], list[Log]], over: Callable[[], bool], tail: int) -> None:
    """Print what `logs` say until the job is over.

    Raises `UserMistake` if it is deleted, or nobody answers for long.
    """
    follower, patience = _Follower(jobs, tail), Patience()
    ended = False
    while not ended:
        pause = LOOK_SECONDS
        try:
            ended = over()
            follower.take_up(logs())
            patience.restore()
        except Absent as gone:
            raise UserMistake(f"`{job}` was deleted before it was over") from gone
        except UserMistake as trouble:
            pause, ended = patience.spend(trouble), False
        if not ended:
            follower.print_for(pause)
    follower.print_rest()


class _Follower:
    def __init__(self, jobs: Jobs, tail: int) -> None:
        self._jobs = jobs
        self._tail: int | None = tail
        self._streams: dict[Log, _Stream] = {}
        self._said: queue.Queue[str] = queue.Queue(LINES_AHEAD)
        self._told: set[str] = set()

    def take_up(self, logs: list[Log]) -> None:
        """Read those that nobody reads: the first ones from their last lines on, later ones from their first."""
        for log in logs:
            stream = self._streams.setdefault(log, _Stream(log, self._tail))
            if not stream.is_read and not stream.whole:
                stream.whole = not log.runs
                stream.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
                stream.thread.start()
        self._tail = None

    def print_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._print_one(left):
            pass

    def print_rest(self) -> None:
        """All that is still said, until every stream ends or nothing comes for long."""
        heard = time.monotonic()
        while (
            any(one.is_read for one in self._streams.values()) and time.monotonic() - heard < SILENCE_SECONDS
        ):
            if self._print_one(GLANCE_SECONDS):
                heard = time.monotonic()
        while self._print_one(0.0):
            pass

    def _print_one(self, seconds: float) -> bool:
        """Whether a line came in time."""
        try:
            line = self._said.get(block=seconds > 0, timeout=seconds)
        except queue.Empty:
            return False
        sys.stdout.write(line)
        sys.stdout.flush()
        return True

    def _read(self, stream: _Stream) -> None:
        """In a thread of its own."""
        log, seam = stream.log, stream.seam
        excerpt = Excerpt(tail=None if seam.since else stream.tail, since=seam.since, follow=True)
        try:
            for line in seam.new(self._jobs.log(log.pod, log.container, excerpt)):
                self._said.put(f"[{log.label}] {line}\n")
        except Unreachable:  # or cut; whether anybody answers, the next look will tell
            stream.whole = False
        except UserMistake as refusal:
            stream.whole = isinstance(refusal, Absent)  # deleted between the look and the read
            self._tell_once(f"[{log.label}] {refusal}")

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            print(sentence, file=sys.stderr, flush=True)
