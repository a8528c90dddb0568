"""A volume that keeps a record of what is done to it, and that fails as it is told: `python -m storage.disk`.

A real file system over FUSE: what it shows lies in another folder. Whoever tests sets a `Fault` as an extended
attribute of its root. It runs in a mount namespace of its own (`volumes.py`), which ends with it.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path
from threading import Condition
from typing import Any

from mfusepy import FUSE, FuseOSError, Operations

from storage.effects import NO_FAULT, Deed, Effect, Fault

LIFETIME_SECONDS = 900
"""It ends by itself then: whoever waits for it gets an error, and never waits for ever."""


class Disk(Operations):  # type: ignore[misc]  # the binding has no types
    """`folder` holds what is stored, `record` gets every effect."""

    use_ns = True

    def __init__(self, folder: Path, record: Path) -> None:
        self._folder = folder
        self._record = record.open("ab", buffering=0)
        self._fault, self._met = NO_FAULT, 0
        self._changed = Condition()

    def _real(self, path: str) -> Path:
        return self._folder / path[1:]

    def _meet(self, deed: Deed, path: str) -> None:
        """Fail, or wait, if that is what the fault says."""
        with self._changed:
            fault = self._fault
            if not fault.means(deed, path):
                return
            self._met += 1
            if not fault.after < self._met <= fault.after + fault.times:
                return
            if fault.held:
                self._changed.wait_for(lambda: self._fault is not fault)
            elif fault.error:
                raise FuseOSError(fault.error)

    def _done(self, deed: Deed, path: str, **how: Any) -> None:
        with self._changed:
            self._record.write(pickle.dumps(Effect(deed, path, **how)))

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> None:
        with self._changed:
            self._fault, self._met = Fault.of(value), 0
            self._changed.notify_all()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = self._real(path).lstat()
        names = (name for name in dir(found) if name.startswith("st_") and name != "st_ino")
        return {name: getattr(found, name) for name in names} | {
            f"st_{kind}time": getattr(found, f"st_{kind}time_ns") for kind in "acm"
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        self._meet(Deed.LIST, path)
        return [".", "..", *(each.name for each in self._real(path).iterdir())]

    def mkdir(self, path: str, mode: int) -> None:
        self._meet(Deed.MKDIR, path)
        self._real(path).mkdir(mode)
        self._done(Deed.MKDIR, path)

    def rmdir(self, path: str) -> None:
        self._meet(Deed.RMDIR, path)
        self._real(path).rmdir()
        self._done(Deed.RMDIR, path)

    def unlink(self, path: str) -> None:
        self._meet(Deed.UNLINK, path)
        self._real(path).unlink()
        self._done(Deed.UNLINK, path)

    def rename(self, old: str, new: str) -> None:
        self._meet(Deed.RENAME, old)
        self._real(old).rename(self._real(new))
        self._done(Deed.RENAME, old, to=new)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._meet(Deed.CREATE, path)
        descriptor = os.open(self._real(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)
        self._done(Deed.CREATE, path)
        return descriptor

    def open(self, path: str, flags: int) -> int:
        self._meet(Deed.OPEN, path)
        descriptor = os.open(self._real(path), flags & ~(os.O_APPEND | os.O_DIRECT))
        if flags & os.O_TRUNC:
            self._done(Deed.TRUNCATE, path)
        return descriptor

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._meet(Deed.READ, path)
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._meet(Deed.WRITE, path)
        self._done(Deed.WRITE, path, offset=offset, data=bytes(data))
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        self._meet(Deed.TRUNCATE, path)
        os.truncate(self._real(path), length)
        self._done(Deed.TRUNCATE, path, offset=length)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        self._meet(Deed.SYNC_FILE, path)
        self._done(Deed.SYNC_FILE, path)

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._meet(Deed.SYNC_FOLDER, path)
        self._done(Deed.SYNC_FOLDER, path)

    def chmod(self, path: str, mode: int) -> None:
        self._real(path).chmod(mode)

    def utimens(self, path: str, times: tuple[int, int]) -> None:
        os.utime(self._real(path), ns=times)

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._real(path))
        return {name: getattr(found, name) for name in dir(found) if name.startswith("f_")}


def main(folder: Path, mount: Path, record: Path) -> None:
    """Serve `folder` at `mount` until the process ends."""
    signal.alarm(LIFETIME_SECONDS)
    # Nothing is remembered outside of this process: what a fault is to meet must come here.
    FUSE(
        Disk(folder, record), str(mount), foreground=True, attr_timeout=0, entry_timeout=0, negative_timeout=0
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
