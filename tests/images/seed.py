"""A containerd root that has the images: the seed. Each node of a test cluster starts from a clone of it.

A clone is made of hard links, but for containerd's databases: a second, and no disk, however large the images are.
Layers are never written to once they are unpacked, so clones do not feel one another.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kube import prerequisites
from kube.processes import run
from kube.programs import Unavailable, say

from . import buildah
from .base import python_base
from .build import OPERATOR, TRAINER, build
from .carry import carry, forget_layers
from .containerd import containerd

IMAGES = [OPERATOR, TRAINER]
NEEDED_DISK_GB = 30
"""While the image with vLLM and torch is built, carried and unpacked for the first time, with room to spare."""

KEPT = 3
"""Seeds, with the one that is wanted: another process may be about to plant an older one. They share their files."""


@dataclass(frozen=True)
class Seed:
    """Images on disk, ready for a node."""

    folder: Path
    names: dict[str, str]
    """Under which name pods find each image."""

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def layout(self) -> Path:
        """See `carry.py`."""
        return self.folder / "layout"

    def plant(self, root: Path) -> None:
        """Make `root` a containerd root that has the images. It lies in the file system of the user's cache folder."""
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        with _alone():
            clone(self.root, root)


def seed() -> Seed:
    """A seed with all images, as the repository's files make them now. Builds what is missing.

    Raises `Unavailable` where they cannot be built, `Failure` when a build fails.
    """
    prerequisites.check()
    with _alone():
        _check_disk()
        names = {image.name: build(image) for image in IMAGES}
        content = hashlib.sha256(" ".join(names.values()).encode()).hexdigest()
        wanted = Seed(_seeds() / content[:12], names)
        if not wanted.folder.exists():
            _grow(wanted)
        _remove_what_is_old(wanted)
        return wanted


def _grow(wanted: Seed) -> None:
    """From the last seed, if there is one. Under another name, so that one that was cut off is not taken for whole."""
    partial = Seed(buildah.folder() / "partial", wanted.names)
    shutil.rmtree(partial.folder, ignore_errors=True)
    partial.layout.mkdir(parents=True)
    for folder in _by_age()[:1]:
        last = Seed(folder, {})
        clone(last.root, partial.root)
        shutil.copytree(last.layout, partial.layout, copy_function=os.link, dirs_exist_ok=True)
    wanted_names = set(wanted.names.values())
    with containerd(partial.root) as target:
        for name in wanted_names - target.images():
            say(f"unpacking {name} ...")
            carry(name, partial.layout, target)
        for name in target.images() - wanted_names:
            run(*target.ctr("images", "delete", name))
        target.collect_garbage()
    forget_layers(partial.layout, but=[layer for name in wanted_names for layer in buildah.layers(name)])
    partial.folder.rename(wanted.folder)


def clone(source: Path, target: Path) -> None:
    """Hard links but for databases, which are written to."""
    run("cp", "--archive", "--link", source, target)
    for database in source.glob("io.containerd.*/*.db"):
        copy = target / database.relative_to(source)
        copy.unlink()
        shutil.copy2(database, copy)


def _remove_what_is_old(wanted: Seed) -> None:
    os.utime(wanted.folder)
    for folder in _by_age()[KEPT:]:
        shutil.rmtree(folder)
    buildah.remove_all_but([python_base(), *wanted.names.values()])


def _by_age() -> list[Path]:
    """Seeds, the one that was used last first."""
    return sorted(_seeds().iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)


def _check_disk() -> None:
    if _by_age():
        return  # what is large is there
    free = shutil.disk_usage(_seeds()).free / 1e9
    if free < NEEDED_DISK_GB:
        raise Unavailable(f"{free:.0f} GB free in {_seeds()}, and building the images needs {NEEDED_DISK_GB}")


def _seeds() -> Path:
    path = buildah.folder() / "seeds"
    path.mkdir(exist_ok=True)
    return path


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time: others wait."""
    with (buildah.folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
