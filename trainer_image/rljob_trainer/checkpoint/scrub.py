"""Reads checkpoints back while training goes on, slowly: what a disk lost is noticed while there are others.

The `Saver` of rank 0 has one. What does not verify is moved to `quarantine/` and named; until a newer one was read back
whole, the newest that was is not removed (`prune.py`). Nor is the one that is being read, however many are saved
meanwhile: else none would ever be read to its end where that takes longer than a checkpoint is kept.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

from .directory import Storage
from .fence import FencedError
from .verify import Problem, problems

PIECE = 1 << 20
"""Bytes that are read at once; after each it pauses."""
OF_ALL_CORES = 0.01
AT_MOST = 0.25
"""A part of the time of one thread, so that storage which other jobs share is not read at full speed."""

PassOver = Callable[[str], None]
"""Hears a sentence on each checkpoint that is damaged or cannot be read."""


def share_here() -> float:
    """The part of its time that a thread may work, to take a hundredth of this machine's cores."""
    return min(OF_ALL_CORES * len(os.sched_getaffinity(0)), AT_MOST)


class SlowReader:
    """Reads files in pieces, and pauses after each so that it works for `share` of the time only.

    Not while `may_read` is clear.
    """

    def __init__(
        self,
        share: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pause = 1 / share - 1
        self._clock, self._sleep = clock, sleep
        self.may_read = Event()
        self.may_read.set()

    def sha256_of(self, path: Path) -> str:
        """Of what is on the disk: what memory holds of the file is forgotten before, and what was read after."""
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            _forget(file)
            while self._read(file, digest.update):
                pass
            _forget(file)
        return digest.hexdigest()

    def _read(self, file: io.FileIO, use: Callable[[bytes], None]) -> bool:
        """Whether there was a piece."""
        self.may_read.wait()
        started = self._clock()
        piece = file.read(PIECE)
        use(piece)
        self._sleep((self._clock() - started) * self._pause)
        return bool(piece)


def _forget(file: io.FileIO) -> None:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Scrub:
    """A thread of its own, from the first `wake` on."""

    def __init__(
        self,
        storage: Storage,
        pass_over: PassOver,
        reader: SlowReader | None = None,
        verified: int | None = None,
    ) -> None:
        """`verified` is the step of a checkpoint that was found whole before, from whatever held its bytes. It is
        protected from the start, and read back from the disk like the others."""
        self._storage, self._pass_over = storage, pass_over
        self._reader = reader or SlowReader(share_here())
        self._proved: set[int] = set() if verified is None else {verified}
        self._read_back: set[int] = set()
        self._reading: int | None = None
        self._doubted: set[int] = set()
        self._told: set[int] = set()
        self._awake = Event()
        self._thread = Thread(target=self._run, daemon=True, name="scrub")
        self.still = Lock()
        """Held while checkpoints are moved or removed, here or by the saver."""

    @property
    def proved(self) -> Collection[int]:
        """Steps of the checkpoints that were read back whole, here or by the resume."""
        return frozenset(self._proved)

    @property
    def reading(self) -> Collection[int]:
        """The step of the checkpoint that is being read, unless that was given up."""
        reading = self._reading
        return () if reading is None else (reading,)

    def let_go(self) -> None:
        """The one that is being read may be removed: its room is wanted. A thread that hangs in it keeps nobody."""
        self._reading = None

    @property
    def doubted(self) -> Collection[int]:
        """Steps of the checkpoints that are damaged, or could not be read back."""
        return frozenset(self._doubted)

    def trust(self, step: int) -> None:
        """Another checkpoint of that step has taken the place of the one in doubt."""
        for steps in (self._doubted, self._told, self._proved, self._read_back):
            steps.discard(step)

    def wake(self) -> None:
        """There may be a checkpoint that was not read back yet."""
        if not self._thread.is_alive():
            self._thread.start()
        self._awake.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is read in the block: a save has the disk to itself, and bytes that move are its signs of life."""
        self._reader.may_read.clear()
        try:
            yield
        finally:
            self._reader.may_read.set()

    def look(self) -> None:
        """Read all that were not read back yet, the newest first. What the volume refuses of one is tried again at the
        next look, and keeps nobody from the others.
        """
        for step in reversed(self._storage.steps()):
            try:
                if step not in self._read_back:
                    self._examine(step)
            except OSError as error:
                logging.warning("The checkpoint of step %d cannot be read back now: %s", step, error)

    def _run(self) -> None:
        while self._awake.wait():
            self._awake.clear()
            try:
                self.look()
            except FencedError:
                return  # the checkpoints are a newer attempt's now
            except OSError as error:
                logging.warning("Checkpoints cannot be read back now: %s", error)

    def _examine(self, step: int) -> None:
        path = self._storage.checkpoint(step)
        try:
            read = path.stat().st_ino
        except FileNotFoundError:
            return  # it had its time while another was read
        with self.still:
            self._reading = step
        found = problems(path, self._reader.sha256_of, threads=1)
        with self.still:
            self._reading = None
            if not path.exists() or path.stat().st_ino != read:
                return  # it made way while it was read, or another took its place
            if not found:
                self._proved.add(step)
                self._read_back.add(step)
                return
            self._doubted.add(step)
            if step not in self._told:
                self._pass_over(self._sentence(step, found[0]))
                self._told.add(step)

    def _sentence(self, step: int, problem: Problem) -> str:
        """What was wrong, and what was done."""
        if problem.unreadable:
            return f"The checkpoint of step {step} could not be read back: {problem.told}. It was left where it is."
        aside = self._storage.quarantine_checkpoint(step)
        return f"The checkpoint of step {step} is damaged: {problem.told}. It was moved to {aside}."
