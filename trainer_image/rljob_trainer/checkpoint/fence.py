"""Which attempt may write: the highest name in `attempts/`.

An attempt enters by creating a file whose *name* is its number and token. Creating a name is atomic and happens once,
and the highest name wins, so the fence can only ever move forward; no lock and no read-then-write is needed. The file
holds a note of the last finished step (`past.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .durable import sync_directory, sync_file

NOTHING_YET = "-\n"
"""The note of an attempt that has not begun to train. An empty one was torn by a power cut."""
_NAME = re.compile(r"(\d+)-([A-Za-z0-9._-]+)")


class FencedError(Exception):
    """A newer attempt has taken the volume or the rollout servers: this one must stop. Not a failure of the job."""


@dataclass(frozen=True, order=True)
class Fence:
    """An attempt's right to write."""

    attempt: int
    token: str

    @property
    def file(self) -> str:
        return f"{self.attempt:06d}-{self.token}"


def fences(attempts: Path) -> list[Fence]:
    """All attempts that ever took the volume, oldest first."""
    names = (_NAME.fullmatch(path.name) for path in attempts.iterdir())
    return sorted(Fence(int(name[1]), name[2]) for name in names if name)


def take_fence(attempts: Path, mine: Fence) -> None:
    """Become the one that may write. Raises `FencedError` if a newer attempt already is."""
    if not _NAME.fullmatch(mine.file):
        raise ValueError(f"token {mine.token!r} cannot be part of a file name")
    if is_reached(attempts, mine):
        check_fence(attempts, mine)
        return
    (attempts / mine.file).write_text(NOTHING_YET)
    sync_file(attempts / mine.file)
    sync_directory(attempts)
    check_fence(attempts, mine)


def is_reached(attempts: Path, mine: Fence) -> bool:
    """Whether an attempt of that number or of a higher one has taken the volume."""
    standing = fences(attempts) if attempts.is_dir() else []
    return bool(standing) and standing[-1].attempt >= mine.attempt


def check_fence(attempts: Path, mine: Fence) -> None:
    """Raise `FencedError` unless this attempt may still write."""
    newest = fences(attempts)[-1]
    if newest != mine:
        raise FencedError(
            f"attempt {mine.attempt} may not write to {attempts.parent} any more: attempt {newest.attempt}"
            f" has taken"
            " it over. Nothing was written; the newer attempt goes on from the last verified checkpoint."
        )
