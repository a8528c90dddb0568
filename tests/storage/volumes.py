"""Volumes that are mounted for a test: one of a few megabytes, and one that fails as it is told.

Each lives in a mount namespace of its own, held by one process: nobody else on this machine sees the mount, and it
is gone with the process, however the test ends. The test reaches it through that process' `/proc/PID/root`.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kube.processes import Command, running
from kube.programs import Unavailable
from storage.effects import NO_FAULT, Effect, Fault, read_record
from waiting import until

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Volume:
    """A mounted volume."""

    path: Path

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize


@dataclass(frozen=True)
class FailingVolume(Volume):
    """It does what it is told, and remembers what was done to it."""

    record: Path

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """It works again after the block."""
        os.setxattr(self.path, Fault.NAME, fault.text)
        try:
            yield
        finally:
            os.setxattr(self.path, Fault.NAME, NO_FAULT.text)

    def effects(self) -> list[Effect]:
        """All that was done to it, in order."""
        return read_record(self.record)


@contextmanager
def small_volume(folder: Path, size: int, files: int = 10_000) -> Iterator[Volume]:
    """A tmpfs of `size` bytes that holds so many files and folders."""
    mount = folder / "small"
    mount.mkdir()
    options = f"size={size},nr_inodes={files}"
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" && exec sleep infinity'
    with _mounted(["sh", "-c", script, "sh", options, mount], mount) as path:
        yield Volume(path)


@contextmanager
def failing_volume(folder: Path) -> Iterator[FailingVolume]:
    """A volume over FUSE. Raises `Unavailable` where FUSE cannot be had."""
    _check_fuse()
    places = [folder / name for name in ("disk", "mount", "record")]
    for place in places[:2]:
        place.mkdir()
    with _mounted([sys.executable, "-m", "storage.disk", *places], places[1]) as path:
        yield FailingVolume(path, places[2])


@contextmanager
def _mounted(command: Command, mount: Path) -> Iterator[Path]:
    """Run what mounts `mount`; its path as others reach it."""
    outside = mount.stat().st_dev
    alone: Command = ["unshare", *_user(), "--mount", "--propagation=private", "--"]
    with running(["env", f"PYTHONPATH={TESTS}", *alone, *command], mount.parent / "mount.log") as process:
        path = Path(f"/proc/{process.pid}/root{mount}")

        def mounted() -> bool:
            assert process.poll() is None, (mount.parent / "mount.log").read_text()
            return path.stat().st_dev != outside

        until(mounted, "the volume is mounted")
        yield path


def _user() -> list[str]:
    """Who is not root here becomes so in a namespace of its own."""
    return [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


def check_namespaces() -> None:
    """Raises `Unavailable` where no mount namespace can be made."""
    command = ["unshare", *_user(), "--mount", "--", "true"]
    if (
        shutil.which("unshare") is None
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        raise Unavailable("a volume of its own needs a mount namespace, and none can be made here")


def _check_fuse() -> None:
    check_namespaces()
    if shutil.which("fusermount3") is None or find_spec("mfusepy") is None:
        raise Unavailable(
            "a failing volume needs FUSE: Debian's package fuse3 (`python -m kube.packages` installs it)"
        )
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        raise Unavailable(
            f"a failing volume needs /dev/fuse: {os.strerror(error.errno or errno.EIO)}"
        ) from None
