"""Finished groups on the volume, so that a restart need not draw them again: `spec.checkpoint.finishedRollouts`.

`STORAGE/rollouts/step_41-3.1a2b3c4d`: groups of the step that begins with 41 finished ones, as attempt 3 wrote them.
Each file has one writer, ever, and says first what its groups depend on; they are used where all of that is the same.
A file is only appended to, so a crash tears no more than its end. Rank 0's `Leader` begins each step here, the `Fleet`
takes groups from it and adds those that are answered, and a checkpoint removes what it makes useless.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rljob_api.base import Record
from rljob_api.checkpoint import FinishedRollouts, ResumePolicy
from rljob_api.manifest import Versions
from rljob_api.run import Run
from rljob_api.status import Exactness
from rljob_trainer.batch import Prompt
from rljob_trainer.checkpoint.directory import Storage
from rljob_trainer.checkpoint.durable import storage_errors, sync_directory
from rljob_trainer.checkpoint.facts import run_hash
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.rollout.group import Group, bodies, decoded, encoded, record

_NAME = re.compile(r"step_(\d+)-\d+\.[0-9a-f]+")
FORMAT = 1
MIB = 2**20


class Origin(Record):
    """What groups depend on, beside what they were asked: the first record of their file."""

    format: int = FORMAT
    job_uid: str
    run_hash: str
    """Of everything in the spec that changes results."""
    versions: Versions
    step: int
    """Finished steps; also the weight version."""
    weights: str
    """Digest of `LoopState`: of all that is known of how these weights came about."""

    def differences(self, other: Origin) -> list[str]:
        """Names of the fields that are not the same."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [name for name in mine if mine[name] != theirs[name]]


def weights_digest(state: LoopState) -> str:
    """Equal for the same steps done in the same way, whenever and by whichever attempt."""
    text = state.model_dump_json(exclude={"elapsed_seconds"})
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class KeptRollouts:
    """One attempt's way to the buffer; on rank 0 only."""

    storage: Storage
    knobs: FinishedRollouts
    run_hash: str
    versions: Versions
    base: int
    """Step of the newest checkpoint, or 0: no restart begins before it."""
    exact: bool
    """The attempt does the steps after `base` as they were done before, bit for bit. Otherwise other weights come of
    them, and what was drawn after them is of no use."""
    clock: Callable[[], float] = time.monotonic
    _writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "finished-rollouts"))
    _current: KeptStep | None = None

    def __post_init__(self) -> None:
        self._remove(lambda step: step < self.base or (step > self.base and not self.exact))
        self._found = _files(self.storage.rollouts)

    def step(self, state: LoopState) -> KeptStep:
        """The buffer of the step that begins with `state`; the same one while that step goes on."""
        origin = self._origin(state)
        if self._current is None or self._current.origin != origin:
            self._current = KeptStep(self, origin, self._found.pop(state.step, []))
        return self._current

    def saved(self, step: int) -> None:
        """There is a checkpoint of `step`: what belongs to earlier ones is of no use any more."""
        self.base = step
        self._remove(lambda old: old < step)

    def close(self) -> None:
        """Wait until what was handed over is written."""
        self._writer.shutdown()

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Have the writer do it, after what it was given before."""
        return self._writer.submit(work)

    def make_room(self, need: int, current: int) -> bool:
        """Whether `need` more bytes fit, if need be instead of those of the oldest steps between the newest checkpoint
        and the `current` one: a restart begins at one of these two, and gets to the others only after it."""
        files = _files(self.storage.rollouts)
        sizes = {step: sum(map(_size, paths)) for step, paths in files.items()}
        between = sorted(files.keys() - {self.base, current})
        while sum(sizes.values()) + need > self.knobs.max_mib * MIB:
            if not between:
                return False
            oldest = between.pop(0)
            _remove(files[oldest])
            del sizes[oldest]
        return True

    def new_file(self, step: int) -> Path:
        """A name that no other writer has."""
        self.storage.rollouts.mkdir(exist_ok=True)
        return self.storage.rollouts / f"step_{step}-{self.storage.mine.attempt}.{secrets.token_hex(4)}"

    def _remove(self, useless: Callable[[int], bool]) -> None:
        """All files of such steps."""
        with storage_errors(self.storage.root, "Removing rollouts of the past"):
            for step, paths in _files(self.storage.rollouts).items():
                if useless(step):
                    _remove(paths)

    def _origin(self, state: LoopState) -> Origin:
        return Origin(
            job_uid=self.storage.job.uid,
            run_hash=self.run_hash,
            versions=self.versions,
            step=state.step,
            weights=weights_digest(state),
        )


def kept_rollouts(run: Run, storage: Storage, versions: Versions, plan: ResumePlan) -> KeptRollouts | None:
    """The buffer of an attempt that goes on by `plan`; None for a job that keeps nothing, or never resumes."""
    spec = run.spec
    knobs = spec.checkpoint.finished_rollouts
    if spec.checkpoint.enabled and knobs.enabled and spec.resume.policy is not ResumePolicy.NEVER:
        exact = plan.exactness is Exactness.EXACT
        return KeptRollouts(storage, knobs, run_hash(spec), versions, plan.step, exact)
    for paths in _files(storage.rollouts).values():
        _remove(paths)
    return None


class KeptStep:
    """The buffer of one step, for the fleet."""

    def __init__(self, rollouts: KeptRollouts, origin: Origin, paths: list[Path]) -> None:
        """`paths` are files of this step that earlier attempts wrote. Its time begins now."""
        self.origin = origin
        self.taken: dict[str, Group] = {}
        """Groups of earlier attempts that are used in this one, by key."""
        self._rollouts = rollouts
        self._earlier = paths
        self._due = rollouts.clock() + rollouts.knobs.after_seconds
        self._added: deque[Group] = deque()
        self._path: Path | None = None
        self._stopped = False
        self._fenced: FencedError | None = None

    def take(self, prompts: Mapping[str, Prompt]) -> list[Group]:
        """What earlier attempts drew for these prompts, which are given by key. Later calls find nothing new."""
        paths, self._earlier = self._earlier, []
        for path in paths:
            for group in self._read(path, prompts):
                self.taken.setdefault(group.key, group)
        return list(self.taken.values())

    def add(self, group: Group) -> None:
        """A group is finished. From any thread; never waits."""
        self._added.append(group)

    def write_due(self) -> None:
        """Hand what was added to the writer, once the step has taken long enough. Call it often: it never waits.

        Raises `FencedError` if a newer attempt has taken the volume.
        """
        if self._fenced:
            raise self._fenced
        if self._added and not self._stopped and self._rollouts.clock() >= self._due:
            self._rollouts.submit(self._write)

    def _write(self) -> None:
        """In the writer's thread: all that was added by now, with one fsync."""
        groups = [self._added.popleft() for _ in range(len(self._added))]
        try:
            if groups and not self._stopped:
                self._append(b"".join(record(encoded(group)) for group in groups))
        except FencedError as error:
            self._fenced = error
        except OSError as error:  # the buffer saves time; training does not depend on it
            self._stop(os.strerror(error.errno or 0))

    def _append(self, data: bytes) -> None:
        """Raises `FencedError` if a newer attempt has taken the volume: room would be made at its expense."""
        self._rollouts.storage.check_fence()
        if not self._rollouts.make_room(len(data), self.origin.step):
            self._stop(f"checkpoint.finishedRollouts.maxMib {self._rollouts.knobs.max_mib} is reached")
            return
        begins = self._path is None
        if self._path is None:
            self._path = self._rollouts.new_file(self.origin.step)
            data = record(self.origin.model_dump_json(by_alias=True).encode()) + data
        with self._path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if begins:
            sync_directory(self._path.parent)

    def _stop(self, why: str) -> None:
        self._stopped = True
        logging.warning(
            "The rest of the finished rollouts of step %d is not kept: %s. A restart would draw it again.",
            self.origin.step + 1,
            why,
        )

    def _read(self, path: Path, prompts: Mapping[str, Prompt]) -> Iterator[Group]:
        try:
            first, *rest = [*bodies(path.read_bytes())] or [None]
        except OSError as error:
            _pass_over(path, os.strerror(error.errno or 0))
            return
        if first is None:
            _pass_over(path, "its first record is not whole")
            return
        if differing := self.origin.differences(Origin.model_validate_json(first)):
            _pass_over(path, f"another {', '.join(differing)}")
            return
        for body in rest:
            if body is None:
                _pass_over(path, "the rest of it is torn or damaged")
            elif group := decoded(body, prompts, self.origin.step):
                yield group


def _pass_over(path: Path, why: str) -> None:
    logging.info("Rollouts in %s are drawn again: %s.", path, why)


def _files(folder: Path) -> dict[int, list[Path]]:
    """Step → its files."""
    found: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        if name := _NAME.fullmatch(path.name):
            found.setdefault(int(name[1]), []).append(path)
    return found


def _size(path: Path) -> int:
    """0 for one that was removed meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
