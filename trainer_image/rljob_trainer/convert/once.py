"""The conversion that a run starts from: made once for all pods and jobs that ask for it, then found by training."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from rljob_api.manifest import FileEntry
from rljob_api.progress import TrainPhase
from rljob_api.run import Run
from rljob_trainer.checkpoint.durable import gigabytes
from rljob_trainer.convert.cache import Entry, cache_root
from rljob_trainer.convert.identity import identity_of
from rljob_trainer.errors import Mistake
from rljob_trainer.locks import Note
from rljob_trainer.model_source import whole_model
from rljob_trainer.stall.limits import Limits

TIMEOUT = timedelta(hours=4)
"""How long a rank waits for the others: a slow one is no reason to throw away what all have written."""
DTYPE = {False: "float32", True: "bfloat16"}
"""By whether training is on GPUs: what it computes in."""
DIGESTS = ".digests"
SECONDS_BETWEEN_LINES = 10.0


def entry_of(run: Run, model: Path) -> Entry:
    """Where the conversion of the run's model, which lies in `model`, belongs."""
    root = cache_root(os.environ)
    return Entry(root, identity_of(run.spec.model, model, root / DIGESTS), DTYPE[run.spec.on_gpu])


def find_converted(run: Run, model: Path) -> Path:
    """The whole conversion that training starts from. Raises `Mistake` if there is none."""
    entry = entry_of(run, model)
    if problem := entry.problem():
        raise Mistake(
            f"No conversion of {run.spec.model.source} to load from in {entry.path}: {problem}. It is made by"
            " `python -m rljob_trainer convert`, which runs before training with the same environment."
        )
    return entry.path


def convert_once(run: Run, tell: Callable[[str], None]) -> Path:
    """Make the conversion unless it is there. Raises `Mistake`, `StorageError`, `UnreachableError` or
    `ConversionError`."""
    model = whole_model(run, tell)
    entry = entry_of(run, model)
    if entry.problem() is None:
        return entry.path
    from rljob_trainer.convert.work import converted_bytes, refuse_unfit

    refuse_unfit(model, run.spec.parallelism)
    size = converted_bytes(model, entry.dtype)
    voice = Voice(run, size, tell)

    def write(draft: Path, note: Note) -> list[FileEntry]:
        return _write(run, model, draft, entry.dtype, voice.to(note))

    return entry.make(size, write, voice.say, voice.murmur)


def _write(run: Run, model: Path, draft: Path, dtype: str, told: Callable[[int], None]) -> list[FileEntry]:
    from rljob_trainer.convert.work import rank_work
    from rljob_trainer.convert.world import run_world

    stall = timedelta(seconds=Limits(run.spec.stall.phase_timeout_seconds).of(TrainPhase.CONVERT))
    work = rank_work(model, draft, dtype)
    world = run.spec.trainer.ranks_per_node
    return run_world(world, work, told, timeout=max(TIMEOUT, stall), stall=stall)


class Voice:
    """How far it is: for the operator always, for the log and for those who wait now and then."""

    def __init__(self, run: Run, size: int, tell: Callable[[str], None]) -> None:
        self._source, self._size, self._tell = run.spec.model.source, size, tell
        self._who = os.environ.get("POD_NAME", f"process {os.getpid()}")
        self._last = 0.0

    def say(self, sentence: str) -> None:
        self._tell(sentence)
        logging.info(sentence)

    def murmur(self, sentence: str) -> None:
        """What is said again and again; the log shows some of it."""
        self._tell(sentence)
        if time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            logging.info(sentence)

    def to(self, note: Note) -> Callable[[int], None]:
        def told(done: int) -> None:
            amount = f"{gigabytes(done)} of {gigabytes(self._size)}"
            note.write(f"{self._who}: {amount}")
            self.murmur(f"converting {self._source}: {amount}")

        return told
