"""Whether real nodes can run on this machine, asked before anything is started."""

from __future__ import annotations

import os
import subprocess

from . import cgroups, packages
from .processes import run
from .programs import Unavailable, cache

NAMESPACES = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=slave"]
"""Those that a cluster lives in, as unshare(1) wants them."""


def check() -> None:
    """Raises `Unavailable` with what is missing and what to do about it."""
    packages.check()
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        raise Unavailable(
            f"a real node needs namespaces, and this root may not make them: {tried.stderr.strip()}"
        )
    if not os.access(cgroups.ROOT, os.W_OK):
        raise Unavailable(f"a real node needs control groups, and {cgroups.ROOT} cannot be written here")
    if _file_system() == "overlayfs":
        raise Unavailable(
            f"images cannot be unpacked in {cache()}, an overlayfs: set XDG_CACHE_HOME to a real disk"
        )


def _file_system() -> str:
    cache().mkdir(parents=True, exist_ok=True)
    return run("stat", "--file-system", "--format=%T", cache()).strip()
