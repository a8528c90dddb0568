"""A lock that several processes, pods and jobs take in turn, so that work on a shared volume is done once.

The kernel frees it when its holder dies, however it dies. On NFS the server does, once the lease of a dead client is
over (90 s by default); mounted with `nolock`, each node has locks of its own, and on a file system without locks
everybody passes. So the lock saves work, and whoever makes something under it must publish it by a rename.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

POLL_SECONDS = 0.2
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


class Hold(Enum):
    """What came of asking for a lock."""

    OURS = auto()
    TAKEN = auto()
    """Another holds it."""
    NONE = auto()
    """The file system has no locks: others may believe the same."""


@contextmanager
def locked(path: Path, waiting: Callable[[str], None]) -> Iterator[Note]:
    """Hold the lock at `path`. While another holds it, `waiting` is told its note every moment."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        while (hold := _try_lock(descriptor)) is Hold.TAKEN:
            waiting(os.pread(descriptor, 1024, 0).decode(errors="replace"))
            time.sleep(POLL_SECONDS)
        note = Note(descriptor, hold)
        note.write("")
        yield note
    finally:
        os.close(descriptor)


@contextmanager
def locked_if_free(path: Path) -> Iterator[Hold]:
    """Hold the lock at `path` unless another does; says what came of it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


class Note:
    """A line in the lock's file by its holder, for those who wait."""

    def __init__(self, descriptor: int, hold: Hold) -> None:
        self._descriptor, self.hold = descriptor, hold

    def write(self, text: str) -> None:
        line = text.encode()
        os.pwrite(self._descriptor, line, 0)
        os.ftruncate(self._descriptor, len(line))


def _try_lock(descriptor: int) -> Hold:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Hold.TAKEN
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return Hold.NONE
    return Hold.OURS
