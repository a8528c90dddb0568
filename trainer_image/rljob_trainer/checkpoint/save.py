"""Saving a checkpoint, all ranks together: written under a draft name, checked, and renamed when it is whole.

A crash at any point leaves either the checkpoint or a draft that the next attempt removes; the one saved
before stays loadable in any case. The loop calls `Saver`; every method of it is collective unless it says
otherwise.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

from rljob_api.manifest import MANIFEST_FILE, CheckpointManifest, FileEntry, Versions
from rljob_api.run import Run
from rljob_api.status import CheckpointFacts
from rljob_trainer.backend.protocol import Backend, Written
from rljob_trainer.futures import in_thread

from .directory import STATE, Storage
from .durable import storage_errors, sync_directory, write_durably
from .facts import FACTS_FILE, facts_text, model_name, result_facts, run_hash
from .files import copy_model_files, synced_entry, unhashed
from .prune import fits_another, make_room, prune
from .scrub import PassOver, Scrub
from .state import LOOP_FILE, LoopState
from .team import AbsentRankError, Team
from .verify import SEAL_FILE, seal

T = TypeVar("T")


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is whole."""

    manifest: CheckpointManifest
    path: Path
    seconds: float
    """From the start of the save to the rename."""

    @property
    def facts(self) -> CheckpointFacts:
        """As the status shows it until it was read back."""
        return facts_of(self.manifest, self.path, verified=False)


def facts_of(manifest: CheckpointManifest, path: Path, *, verified: bool) -> CheckpointFacts:
    """What the status shows of a checkpoint; `verified` if all of it was read back."""
    return CheckpointFacts(
        step=manifest.step,
        time=manifest.time,
        path=str(path),
        bytes=manifest.bytes,
        verified=verified,
        has_rng=manifest.has_rng,
        has_optimizer=manifest.has_optimizer,
        layout=manifest.layout.short,
    )


@dataclass(frozen=True)
class _Draft:
    """A checkpoint on its way."""

    loop: LoopState
    path: Path
    written: Written
    """Waits until the backend's files are on disk."""
    started: float


class Saver:
    """Writes one checkpoint at a time, in the foreground (`save`) or while training goes on (`begin`, `poll`)."""

    def __init__(
        self,
        run: Run,
        storage: Storage,
        backend: Backend,
        versions: Versions,
        model_directory: Path | None,
        *,
        pass_over: PassOver | None = None,
        verified: int | None = None,
    ) -> None:
        """`model_directory` is the Hugging Face directory that the model came from; all ranks call this together.

        With `pass_over` rank 0 reads checkpoints back in the background, and tells it of those that are damaged.
        `verified` is the step of the job's own that the attempt went on from.
        """
        self._run, self._storage, self._backend = run, storage, backend
        self.versions = versions
        """What manifests say from now on; rank 0's are those that count."""
        self._model_directory = model_directory
        timeout = run.spec.backend_options.distributed_timeout or dist.default_pg_timeout
        self._team = Team(dist.new_group(backend="gloo", timeout=timeout), timeout)
        self._boundary = Team(dist.new_group(backend="gloo", timeout=timeout), timeout)
        self._running: Future[Saved] | None = None
        self._scrub: Scrub | None = None
        if pass_over and self._team.rank == 0:
            self._scrub = Scrub(storage, pass_over, verified=verified)
            self._scrub.wake()
        self.latest: Saved | None = None
        """The newest checkpoint that this attempt completed. Not collective."""

    def save(self, loop: LoopState, rng: object) -> Saved:
        """Save and wait. `rng` is the random state after `loop.step`; it may have moved on since.

        Raises on all ranks alike `StorageError`, `Mistake`, `FencedError` or `SaveError`; no draft is left
        behind.
        """
        self.finish()
        self.latest = self._complete(self._start(loop, rng, background=False))
        return self.latest

    def holds(self, step: int) -> bool:
        """Whether there is a checkpoint of this step that was not found damaged or unreadable since."""
        return self._on_first(lambda: self._storage.checkpoint(step).exists() and step not in self.doubted)

    def begin(self, loop: LoopState, rng: object) -> None:
        """Take a copy of the state and write it in the background; waits first for a save that is still under way."""
        self.finish()
        draft = self._start(loop, rng, background=True)
        self._running = in_thread(lambda: self._complete(draft), "save")

    def poll(self) -> Saved | None:
        """The checkpoint begun before, once it is whole on all ranks; None while it is not, or if there is none."""
        if self._running is None or not self._boundary.all(self._running.done()):
            return None
        return self.finish()

    def finish(self) -> Saved | None:
        """Wait for a checkpoint begun before. Call it before leaving."""
        if self._running is None:
            return None
        running, self._running = self._running, None
        self.latest = running.result()
        return self.latest

    def _start(self, loop: LoopState, rng: object, *, background: bool) -> _Draft:
        started = time.monotonic()
        path = self._storage.draft(loop.step)
        waits: list[Written] = []

        def write() -> None:
            optimizer = self._run.spec.checkpoint.save_optimizer
            state = path / STATE
            waits.append(
                self._backend.save_checkpoint(state, optimizer=optimizer, rng=rng, background=background)
            )

        with self._alone(), self._abandoned_on_failure(path):
            self._on_first(lambda: self._prepare(path))
            self._on_each(write)
        return _Draft(loop, path, waits[0], started)

    def _complete(self, draft: _Draft) -> Saved:
        with self._alone(), self._abandoned_on_failure(draft.path):
            told = itertools.chain(*self._on_each(draft.written))
            hashed = [entry.model_copy(update={"path": f"{STATE}/{entry.path}"}) for entry in told]
            entries = hashed + self._hash_rest(draft, hashed)
            manifest = self._on_first(lambda: self._publish(draft, entries))
        if self._scrub:
            self._scrub.wake()
        seconds = time.monotonic() - draft.started
        return Saved(manifest, self._storage.checkpoint(manifest.step), seconds)

    @property
    def proved(self) -> Collection[int]:
        """Steps of the checkpoints that rank 0 knows to be whole. Not collective."""
        return self._scrub.proved if self._scrub else ()

    @property
    def doubted(self) -> Collection[int]:
        """Steps of those that it found damaged, or could not read back. Not collective."""
        return self._scrub.doubted if self._scrub else ()

    def _on_each(self, act: Callable[[], T]) -> list[T]:
        return self._team.each(lambda: self._told(act))

    def _on_first(self, act: Callable[[], T]) -> T:
        return self._team.first(lambda: self._told(act))

    def _told(self, act: Callable[[], T]) -> T:
        with storage_errors(self._storage.root, "Saving a checkpoint"):
            return act()

    def _alone(self) -> AbstractContextManager[None]:
        return self._scrub.paused() if self._scrub else nullcontext()

    @contextmanager
    def _abandoned_on_failure(self, draft: Path) -> Iterator[None]:
        """Remove the draft of a save that failed; if a newer attempt took the volume, that is why it failed."""
        try:
            yield
        except Exception as error:
            if self._team.rank == 0:
                shutil.rmtree(draft, ignore_errors=True)
            if isinstance(error, AbsentRankError):
                raise
            self._on_first(self._make_room)
            raise

    def _make_room(self) -> None:
        """For the next try: it may have been room that was lacking, and a quota is not seen before."""
        self._storage.check_fence()
        make_room(self._storage, self._run.spec.checkpoint, self._scrub)

    def _prepare(self, draft: Path) -> None:
        if not fits_another(self._storage):
            make_room(self._storage, self._run.spec.checkpoint, self._scrub)
        draft.mkdir()
        self._storage.check_fence()
        (draft / STATE).mkdir()

    def _add_ours(self, draft: _Draft) -> None:
        """What does not come from the backend: loop, spec, and what an export needs."""
        write_durably(draft.path / LOOP_FILE, draft.loop.model_dump_json(by_alias=True))
        write_durably(draft.path / FACTS_FILE, facts_text(result_facts(self._run.spec)))
        copy_model_files(self._model_directory, draft.path)

    def _hash_rest(self, draft: _Draft, hashed: list[FileEntry]) -> list[FileEntry]:
        """Checksum and fsync the files that were not hashed as they were written, each rank its share."""

        def complete() -> list[str]:
            self._add_ours(draft)
            return unhashed(draft.path, hashed)

        mine = self._on_first(complete)[self._team.rank :: self._team.size]
        return list(
            itertools.chain(*self._on_each(lambda: [synced_entry(draft.path, name) for name in mine]))
        )

    def _publish(self, draft: _Draft, entries: list[FileEntry]) -> CheckpointManifest:
        """Seal the draft and give it its name: from here on it exists."""
        manifest = self._manifest(draft.loop, entries)
        text = manifest.model_dump_json(by_alias=True, indent=1)
        write_durably(draft.path / MANIFEST_FILE, text)
        write_durably(draft.path / SEAL_FILE, seal(text))
        sync_directory(draft.path / STATE)
        self._take_name(draft.loop.step)
        prune(self._storage, self._run.spec.checkpoint, self._scrub)
        return manifest

    def _take_name(self, step: int) -> None:
        """Publish; one of that name that could not be read back is put aside before."""
        if self._scrub is None or step not in self._scrub.doubted:
            self._storage.publish(step)
            return
        with self._scrub.still:
            if self._storage.checkpoint(step).exists():
                self._storage.quarantine_checkpoint(step)
            self._storage.publish(step)
            self._scrub.trust(step)

    def _manifest(self, loop: LoopState, entries: list[FileEntry]) -> CheckpointManifest:
        return CheckpointManifest(
            job_name=self._run.name,
            job_uid=self._run.uid,
            attempt=self._run.attempt,
            step=loop.step,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            run_hash=run_hash(self._run.spec),
            model=model_name(self._run.spec),
            layout=self._backend.layout,
            versions=self.versions,
            has_rng=True,
            has_optimizer=self._run.spec.checkpoint.save_optimizer,
            metrics=loop.metrics,
            files=sorted(entries, key=lambda entry: entry.path),
        )
