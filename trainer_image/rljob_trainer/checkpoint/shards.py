"""A rank's share of a distributed checkpoint, hashed on its way to the disk, so that nothing is read back.

What is written is what `torch.distributed.checkpoint` always writes, and any reader of that format loads it. Both
backends save through `write_shards`; `Saver` puts what it tells into the manifest.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future
from torch.utils.serialization import config as serialization

from rljob_api.base import Manifest
from rljob_api.manifest import FileEntry
from rljob_trainer.backend.protocol import Written

BESIDE = 1 << 20
"""Pieces of at least this many bytes are hashed by a second thread while the first one writes them."""

FLUSH = 16 << 20
"""After so many bytes the disk is told to begin, so that the wait at the end is short."""


class HashedFile:
    """A file that is written from front to back; its checksum is known when the last byte is."""

    def __init__(self, file: io.IOBase, hasher: ThreadPoolExecutor) -> None:
        self._file, self._hasher = file, hasher
        self._digest = hashlib.sha256()
        self._bytes = self._begun = 0

    def entry(self, name: str) -> FileEntry:
        return FileEntry(path=name, bytes=self._bytes, sha256=self._digest.hexdigest())

    def write(self, data: bytes | memoryview) -> int:
        size = memoryview(data).nbytes
        if size < BESIDE:
            self._digest.update(data)
            self._file.write(data)
        else:
            hashing = self._hasher.submit(self._digest.update, data)
            try:
                self._file.write(data)
            finally:
                hashing.result()  # the bytes are the caller's again once this returns
        self._bytes += size
        if self._bytes - self._begun >= FLUSH:
            self._begin_flush()
        return size

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        """Once all of it is on the disk."""
        if self._file.closed:
            return
        self._file.flush()
        os.fsync(self.fileno())
        self._file.close()

    def _begin_flush(self) -> None:
        """Nobody will read these pages soon: Linux takes that as a reason to write them out now, without waiting."""
        self._file.flush()
        os.posix_fadvise(self.fileno(), self._begun, self._bytes - self._begun, os.POSIX_FADV_DONTNEED)
        self._begun = self._bytes


class HashedFiles(FileSystem):
    """The files that one rank writes."""

    def __init__(self) -> None:
        self.entries: dict[str, FileEntry] = {}
        """By name."""

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
        with super().create_stream(path, mode) as file, ThreadPoolExecutor(1, "sha256") as hasher:
            hashed = HashedFile(file, hasher)
            yield hashed
            hashed.close()
        name = Path(path).name
        self.entries[name] = hashed.entry(name)

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        super().rename(path, new_path)
        name = Path(new_path).name
        self.entries[name] = self.entries.pop(Path(path).name).model_copy(update={"path": name})


class ShardWriter(FileSystemWriter):
    """Torch's writer, one file for each rank. For one save.

    It syncs nothing itself, as `HashedFile` does: torch syncs its metadata before the last of it has left Python.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, single_file_per_rank=True, sync_files=False)
        self.fs: HashedFiles = HashedFiles()

    @property
    def written(self) -> list[FileEntry]:
        """What this rank has written, by names in the directory; all of it once the save is over."""
        return list(self.fs.entries.values())

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        # A second checksum, inside each archive, says nothing new.
        with serialization.patch("save.compute_crc32", False):  # type: ignore[attr-defined]  # made at import
            try:
                return super().write_data(plan, planner)
            except RuntimeError as error:
                raise _refusal(error) or error from error


def write_shards(
    state: Manifest, directory: Path, planner: SavePlanner, group: dist.ProcessGroup, *, background: bool
) -> Written:
    """Write this rank's share of `state` into `directory`; returns what waits until all ranks have. Collective.

    With `background` a thread writes, and `state` must be a copy that nobody changes. What one rank raises is raised
    on all of them.
    """
    if not background:
        entries = _write(state, directory, planner, group)
        return lambda: entries
    pool = ThreadPoolExecutor(1, "checkpoint")
    writing = pool.submit(_write, state, directory, planner, group)
    pool.shutdown(wait=False)
    return writing.result


def _write(
    state: Manifest, directory: Path, planner: SavePlanner, group: dist.ProcessGroup
) -> list[FileEntry]:
    writer = ShardWriter(directory)
    try:
        save(state, storage_writer=writer, planner=planner, process_group=group)
    except CheckpointException as error:  # a collection of what ranks raised, and no `Exception`
        raise next(iter(error.failures.values()))[0] from error
    return writer.written


def _refusal(error: BaseException | None) -> OSError | None:
    """What the disk said: torch closes the archive that it could not write, and raises what comes of that."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error
