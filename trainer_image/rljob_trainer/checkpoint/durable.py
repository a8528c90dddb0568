"""Effects on the volume that survive a crash at any point, and the sentences for a volume that refuses them."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from rljob_api.base import Record
from rljob_trainer.errors import Mistake


class StorageError(Exception):
    """The volume is full or failing: nothing is wrong with the job, and a restart may help once there is room."""


R = TypeVar("R", bound=Record)
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def storage_errors(root: Path, deed: str) -> Iterator[None]:
    """Turn what a volume refuses into a sentence: `Mistake` where only the user can help, else `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL | FORBIDDEN | {errno.EIO, errno.ESTALE, errno.ENOTDIR}:
            raise
        raise _told(error, root, deed) from error


@contextmanager
def dispensable(deed: str) -> Iterator[None]:
    """For what training does not depend on: what a volume refuses is told in the log, and training goes on."""
    try:
        yield
    except (OSError, StorageError) as error:
        logging.warning("%s failed: %s. Training goes on.", deed, str(error).rstrip("."))


def _told(error: OSError, root: Path, deed: str) -> Exception:
    reason = os.strerror(error.errno or 0)
    if error.errno in FULL:
        return StorageError(
            f"{deed} failed: the volume at {root} is full ({reason}). Free space, enlarge the claim, or lower"
            " spec.checkpoint.keepLatest; checkpoints saved before are whole."
        )
    if error.errno in FORBIDDEN:
        return Mistake(
            f"{deed} failed: the directory {root} cannot be written ({reason}). Make it writable for user"
            f" {os.getuid()}, or give the job another volume."
        )
    where = f", at {error.filename}" if error.filename else ""
    return StorageError(
        f"{deed} failed: the volume at {root} does not work ({reason}{where}). Look at the node's kernel log or the"
        " storage's own; checkpoints saved before are not touched."
    )


@contextmanager
def room_for(size: int, root: Path, what: str, mend: str) -> Iterator[None]:
    """Around what writes `size` bytes below `root`. Raises `StorageError` at once if they are not free, or later if
    the volume is full all the same: a quota, or somebody else, was not seen before."""
    free = shutil.disk_usage(root).free
    told = f"{what} needs {gigabytes(size)} in {root}, where {gigabytes(free)} are free"
    if free < size:
        raise StorageError(f"{told}. {mend}")
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StorageError(f"{told}, and yet it is full ({os.strerror(error.errno or 0)}). {mend}") from error


def gigabytes(size: float) -> str:
    """For sentences."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def sync_file(path: Path) -> None:
    """Wait until the file's content is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


sync_directory = sync_file
"""Wait until the names in a directory are on disk: the same call, on a directory."""


def sync_files(directory: Path) -> None:
    """Wait until all files of a directory, and their names, are on disk."""
    for file in directory.iterdir():
        sync_file(file)
    sync_directory(directory)


def write_durably(path: Path, text: str) -> None:
    """Put `text` at `path`: after a crash there is the old content or the new, never a mixture. Of several that write
    it at a time, on any machines, the last wins."""
    draft = draft_of(path)
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with suppress(OSError):  # what the volume refused first is what is told
            draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def read_record(path: Path, kind: type[R], lost: str) -> R | None:
    """What was put there so, if it is; None also if it is damaged, and then the log says what is `lost` with it."""
    if not path.exists():
        return None
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError:
        logging.warning("%s is damaged: %s", path, lost)
        return None


def remove_durably(path: Path) -> None:
    """If it is there. After a crash it does not come back."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def draft_of(path: Path) -> Path:
    """A name beside it that nobody else uses: process ids repeat from pod to pod."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


def remove_tree(path: Path, trash: Path) -> None:
    """Remove a directory so that nobody ever sees half of it, not even after a power cut: it goes to `trash` first."""
    doomed = trash / f"{path.name}.{os.getpid()}.{path.stat().st_ino}"
    path.rename(doomed)
    sync_directory(path.parent)
    with ThreadPoolExecutor() as pool:  # large files take long: 0.17 s a gigabyte on ext4
        list(pool.map(Path.unlink, (file for file in doomed.rglob("*") if not file.is_dir())))
    shutil.rmtree(doomed)
