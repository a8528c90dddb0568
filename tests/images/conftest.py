"""The images, and a way to run a command in one as a pod would."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kube.fixtures import skipped_if_unavailable
from kube.processes import run

from . import buildah
from .containerd import Containerd, containerd
from .seed import Seed, seed


@dataclass(frozen=True)
class Pod:
    """Runs commands as pods run them: the image's user, read-only root, seccomp, and a /tmp of its own."""

    containerd: Containerd
    images: dict[str, str]

    def run(self, image: str, *command: str) -> str:
        """What a command in a container of the image says.

        Raises `Failure` with what it says on stderr when it fails.
        """
        options = ["--rm", "--read-only", "--seccomp", "--mount=type=tmpfs,dst=/tmp,options=mode=1777"]
        name = f"test-{uuid.uuid4().hex[:8]}"
        return run(*self.containerd.ctr("run", *options, self.images[image], name, *command))


@pytest.fixture(scope="package")
def images() -> Seed:
    with skipped_if_unavailable():
        return seed()


@pytest.fixture(scope="package")
def pod(images: Seed, scratch: Path) -> Iterator[Pod]:
    images.plant(scratch / "root")
    with containerd(scratch / "root") as found:
        yield Pod(found, images.names)


@pytest.fixture(scope="package")
def scratch(images: Seed) -> Iterator[Path]:
    """Beside the seeds: clones are hard links."""
    with buildah.scratch() as folder:
        yield folder
