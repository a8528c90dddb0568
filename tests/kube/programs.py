"""The real kube-apiserver and etcd: those that the user has, or built from their Go modules.

`python -m kube.programs` builds them ahead; `control_plane.py` asks for them when a test needs a real API server.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
KUBERNETES = "v1.35.4"
STAMP = "k8s.io/component-base/version.git"
NEEDED_DISK_GB = 30
"""Go's caches and the linker's temporary files of a cold build, with room to spare."""


class Unavailable(Exception):  # noqa: N818 - a reason to skip, not a fault
    """No real API server can be had here; the message says why."""


@dataclass(frozen=True)
class Program:
    """One program, built from the Go module in a folder beside this file."""

    name: str
    module: str
    package: str
    linker_flags: str

    @property
    def version_hash(self) -> str:
        """Changes with the pinned modules and with how they are built."""
        folder = HERE / self.module
        parts = [
            (folder / "go.mod").read_bytes(),
            (folder / "go.sum").read_bytes(),
            self.linker_flags.encode(),
        ]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


PROGRAMS = [
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "-s -w"),
    Program(
        "kube-apiserver",
        "kubernetes",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        # without these the server calls itself v0.0.0-master, and clients refuse it
        f"-s -w -X {STAMP}Version={KUBERNETES} -X {STAMP}Major=1 -X {STAMP}Minor=35",
    ),
]


def programs() -> dict[str, Path]:
    """The path of each program, by name. Builds what is missing: minutes the first time.

    Raises `Unavailable` without Go or without the disk space that a build needs.
    """
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        return {program.name: Path(assets, program.name) for program in PROGRAMS}
    return {program.name: _built(program) for program in PROGRAMS}


def _built(program: Program) -> Path:
    target = _cache() / "rljob" / "bin" / program.version_hash / program.name
    if not target.exists():
        _check_that_it_can_be_built()
        _build(program, target)
    return target


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _check_that_it_can_be_built() -> None:
    if shutil.which("go") is None:
        raise Unavailable("no Go here to build kube-apiserver with, and KUBEBUILDER_ASSETS is not set")
    _cache().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(_cache()).free / 1e9
    if free < NEEDED_DISK_GB:
        raise Unavailable(
            f"{free:.0f} GB free in {_cache()}, and a build of kube-apiserver needs {NEEDED_DISK_GB}"
        )


def _build(program: Program, target: Path) -> None:
    """Build beside the target and rename: a build that was cut off leaves nothing that looks finished."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{program.name}.{os.getpid()}")
    _say(f"building {program.name} from {program.package} (minutes the first time) ...")
    started = time.monotonic()
    command = [
        "go",
        "build",
        "-trimpath",
        "-ldflags",
        program.linker_flags,
        "-o",
        str(partial),
        program.package,
    ]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    built = subprocess.run(
        command, cwd=HERE / program.module, env=environment, capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise Unavailable(f"go could not build {program.name}: {built.stderr.strip()[-1000:]}")
    partial.rename(target)
    _say(f"built {program.name} in {time.monotonic() - started:.0f} s")


def _say(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)  # past pytest's capture: a silent minute looks like a hang


if __name__ == "__main__":
    try:
        for name, path in programs().items():
            print(name, path)
    except Unavailable as reason:
        sys.exit(f"tests that need a real API server will be skipped: {reason}")
