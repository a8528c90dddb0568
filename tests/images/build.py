"""Dockerfile -> image in buildah's storage."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from kube.programs import cache, say

from . import buildah
from .base import python_base

REPOSITORY = Path(__file__).parents[2]
CERTIFICATES = Path("/etc/ssl/certs")
DOWNLOADS_IN_BUILD = Path("/", "root", ".cache", "uv")
"""Where uv looks for them in a build, which runs as root of the image."""


@dataclass(frozen=True)
class Image:
    """One of the project's images."""

    name: str
    dockerfile: str
    arguments: dict[str, str] = field(default_factory=dict)


OPERATOR = Image("rljob-operator", "operator/Dockerfile")
TRAINER = Image(
    "rljob-trainer",
    "trainer_image/Dockerfile",
    {"REQUIREMENTS": "requirements/trainer-cpu.txt", "UV_NO_CACHE": "0"},
)


def build(image: Image, repository: Path = REPOSITORY) -> str:
    """Build an image from what lies in the repository now; the name it got, which says what is in it.

    Raises `Failure` with the end of what the build said.
    """
    say(f"building {image.name} ...")
    started = time.monotonic()
    arguments = {"PYTHON_IMAGE": python_base(), **image.arguments}
    found = buildah.build(
        "--network=host",
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        *(f"--volume={volume}" for volume in _volumes()),
        *("--file", repository / image.dockerfile, repository),
    )
    name = f"localhost/{image.name}:{found[:12]}"
    buildah.tag(found, name)
    say(f"{name} is ready after {time.monotonic() - started:.0f} s")
    return name


def _volumes() -> list[str]:
    """What a build here shares with this machine: whom to trust, and what uv has downloaded."""
    downloads = Path(os.environ.get("UV_CACHE_DIR") or cache().parent / "uv")
    downloads.mkdir(parents=True, exist_ok=True)
    return [f"{CERTIFICATES}:{CERTIFICATES}:ro", f"{downloads}:{DOWNLOADS_IN_BUILD}"]
