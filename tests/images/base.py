"""A Python image of Debian's packages, for there is no registry here to take `python:slim` from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kube.processes import run
from kube.programs import say

from . import buildah

SUITE = "bookworm"
PACKAGES = ["ca-certificates", "python3-dev", "python3-venv"]
"""What is in `python:slim` too: headers, venv, certificates."""
UNWANTED = ["etc/resolv.conf", "etc/hostname", "var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*"]
"""Facts of this machine, and downloads."""


def python_base() -> str:
    """The image's name. It is made when it is not there yet: half a minute."""
    content = hashlib.sha256(" ".join([SUITE, *PACKAGES, *UNWANTED]).encode()).hexdigest()
    name = f"localhost/python-base:{content[:12]}"
    if not buildah.has(name):
        say(f"making {name} of Debian's packages ...")
        with buildah.scratch() as scratch:
            _make(name, scratch)
    return name


def _make(name: str, scratch: Path) -> None:
    root = scratch / "root"
    run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root)
    for pattern in UNWANTED:
        for file in root.glob(pattern):
            file.unlink()
    run("tar", "-C", root, "-cf", scratch / "base.tar", ".")
    (scratch / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    buildah.build("--tag", name, scratch)
