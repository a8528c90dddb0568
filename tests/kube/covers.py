"""Layers over the machine's own folders, in which nodes write whatever they are told. `boot.py` puts them there.

They lie in the cluster's mount namespace alone: this machine does not see them, and they end with the cluster.
"""

from __future__ import annotations

import os
from pathlib import Path

from .places import Place
from .processes import run

COVERED = [Path("/var/lib"), Path("/var/log")]
"""Where kubelets and network plugins write whatever they are told, beside /run."""


def cover(place: Place) -> None:
    """Let all that nodes write into the machine's folders end with us, and this machine not see it."""
    run("mount", "--make-rshared", "/")  # among ourselves: kubelets share mounts with pods
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    real = os.open(place.folder, os.O_PATH)
    for folder in COVERED:
        upper, work = (
            place.run / "covers" / folder.name / "upper",
            place.run / "covers" / folder.name / "work",
        )
        upper.mkdir(parents=True)
        work.mkdir()
        layers = f"lowerdir={folder},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "-o", layers, "overlay", folder)
        if place.folder.is_relative_to(folder):
            run("mount", "--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{real}", place.folder)
    os.close(real)
