"""A place on this machine for a cluster: numbered folders, each used by one cluster at a time.

All that a cluster makes outside its own namespaces follows from the number of its place, and is written down in the
folder before it is made. So whoever takes a place finds what a cluster that was killed there has left, and clears it,
and touches nothing else. `launch.py` takes and clears places.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from . import cgroups
from .processes import Failure, run
from .programs import Unavailable, cache

PLACES = 16
LONGEST_PATH = 64
"""Sockets of a kubelet lie up to 43 characters below a place's `run`, and Linux allows 107 in all."""
BUSY_S = 60
"""For how long the kernel may call a cgroup busy after its last process was killed."""


@dataclass(frozen=True)
class Place:
    """A numbered place, and the names that follow from the number."""

    number: int

    @property
    def folder(self) -> Path:
        return cache() / "clusters" / str(self.number)

    @property
    def run(self) -> Path:
        """All files of a running cluster."""
        return self.folder / "run"

    @property
    def record(self) -> Path:
        """What was made outside `folder`."""
        return self.folder / "made.json"

    @property
    def link(self) -> str:
        """The network interface by which this machine reaches the cluster."""
        return f"rljob{self.number}"

    @property
    def near(self) -> str:
        """This machine's address on `link`; of a range that is meant for test networks."""
        return f"198.18.{self.number}.1"

    @property
    def far(self) -> str:
        """The cluster's address on `link`."""
        return f"198.18.{self.number}.2"

    @property
    def cgroup(self) -> str:
        return f"/rljob{self.number}"


def all_places() -> list[Place]:
    return [Place(number) for number in range(PLACES)]


def take() -> tuple[Place, int]:
    """A place that nobody uses, and a lock on it: a file descriptor that holds it while it is open.

    Raises `Unavailable` when all are in use, or their paths too long.
    """
    clear_what_is_stale()
    for place in all_places():
        if len(str(place.run)) > LONGEST_PATH:
            raise Unavailable(f"no cluster in {place.run}: set XDG_CACHE_HOME to a shorter path")
        if not _is_someone_elses(place) and (lock := lock_of(place)) is not None:
            return place, lock
    raise Unavailable(f"all {PLACES} places for clusters in {cache() / 'clusters'} are in use")


def clear_what_is_stale() -> None:
    """Remove what clusters of this user have left that were killed."""
    for place in all_places():
        if place.folder.exists() and (lock := lock_of(place)) is not None:
            clear(place)
            os.close(lock)


def lock_of(place: Place) -> int | None:
    """The lock on a place, or None while a cluster holds it."""
    place.folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(place.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def is_in_use(place: Place) -> bool:
    """Whether a cluster holds this place."""
    if not place.folder.exists():
        return False
    lock = lock_of(place)
    if lock is not None:
        os.close(lock)
    return lock is None


def claim(place: Place) -> None:
    """Write down what will be made. To be called before any of it is."""
    made = {
        "link": place.link,
        "cgroups": [str(each) for each in cgroups.folders(place.cgroup)],
    }
    place.record.write_text(json.dumps(made, indent=2))


def clear(place: Place) -> None:
    """Remove all that a cluster, which ended in whatever way, has left. Its namespaces ended with it.

    To be called by who holds the lock.
    """
    if place.record.exists():
        made = json.loads(place.record.read_text())
        _remove_link(made["link"])
        for each in made["cgroups"]:
            _remove_cgroup(Path(each))
        place.record.unlink()
    if place.run.exists():
        shutil.rmtree(place.run)


def _remove_link(name: str) -> None:
    """The kernel takes it along with its other end's namespace, in its own time: perhaps between look and deletion."""
    try:
        if _link_exists(name):
            run("ip", "link", "delete", name)
    except Failure:
        if _link_exists(name):
            raise


def _remove_cgroup(folder: Path) -> None:
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            return cgroups.remove(folder)
        except OSError as busy:
            if time.monotonic() > deadline:
                raise Failure(f"cannot remove the cgroup {folder}: {busy}") from busy
            time.sleep(0.05)


def _is_someone_elses(place: Place) -> bool:
    """Whether something has the names of this place, and is not ours: of another user's cluster, say."""
    if place.record.exists():
        return False
    return _link_exists(place.link) or any(each.exists() for each in cgroups.folders(place.cgroup))


def _link_exists(link: str) -> bool:
    return Path("/sys/class/net", link).exists()
