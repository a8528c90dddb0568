"""The programs of a real Kubernetes: those that the user has, or built from their Go modules.

`python -m kube.programs` builds them all ahead and prints their paths; `programs` builds what a test asks for. Go keeps
gigabytes of what it compiles; here in a folder beside the programs, which goes when all of them are there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
KUBERNETES = "v1.35.4"
STAMP = "k8s.io/component-base/version.git"
NEEDED_DISK_GB = 30
"""Go's caches and the linker's temporary files of a cold build, with room to spare."""


class Unavailable(Exception):  # noqa: N818 - a reason to skip, not a fault
    """Something that a real cluster needs cannot be had here; the message says what."""


@dataclass(frozen=True)
class Program:
    """One program, built from the Go module in a folder."""

    name: str
    module: Path
    """With `go.mod`, `go.sum` and, where it is put together here, its `main.go`."""
    package: str
    linker_flags: str

    @property
    def version_hash(self) -> str:
        """Changes with the pinned modules and with how they are built."""
        sources = sorted([*self.module.glob("go.*"), *self.module.glob("*.go")])
        parts = [*(path.read_bytes() for path in sources), self.linker_flags.encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _kubernetes(name: str) -> Program:
    # without these it calls itself v0.0.0-master, and clients refuse it
    flags = f"-s -w -X {STAMP}Version={KUBERNETES} -X {STAMP}Major=1 -X {STAMP}Minor=35"
    return Program(name, HERE / "kubernetes", f"k8s.io/kubernetes/cmd/{name}", flags)


PROGRAMS = {
    program.name: program
    for program in [
        Program("etcd", HERE / "etcd", "go.etcd.io/etcd/server/v3", "-s -w"),
        _kubernetes("kube-apiserver"),
        _kubernetes("kubectl"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        Program("coredns", HERE / "coredns", "rljob.io/tests/kube/coredns", "-s -w"),
        Program("helm", HERE / "helm", "helm.sh/helm/v4/cmd/helm", "-s -w"),
        Program("helm3", HERE / "helm3", "helm.sh/helm/v3/cmd/helm", "-s -w"),
        Program("kwok", HERE / "kwok", "sigs.k8s.io/kwok/cmd/kwok", "-s -w"),
        Program("kubeconform", HERE / "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "-s -w"),
    ]
}
ASSETS = {"etcd", "kube-apiserver", "kubectl"}
"""What lies in the folder that `KUBEBUILDER_ASSETS` names."""


def programs(*names: str) -> dict[str, Path]:
    """The path of each program, by name. Builds what is missing: minutes the first time.

    Raises `Unavailable` without Go or without the disk space that a build needs.
    """
    return {name: _found(PROGRAMS[name]) for name in names}


def _found(program: Program) -> Path:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(assets, program.name) if assets and program.name in ASSETS else built(program)


def built(program: Program) -> Path:
    """Where it is. Builds it if it is missing.

    Raises `Unavailable`, as `programs` does.
    """
    target = cache() / "bin" / program.version_hash / program.name
    if not target.exists():
        _check_that_it_can_be_built(program)
        with _one_at_a_time(target):
            if not target.exists():
                _build(program, target)
    return target


def cache() -> Path:
    """RLJob's folder among the user's caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "rljob")


def _check_that_it_can_be_built(program: Program) -> None:
    if shutil.which("go") is None:
        advice = ", and KUBEBUILDER_ASSETS is not set" if program.name in ASSETS else ""
        raise Unavailable(f"no Go here to build {program.name} with{advice}")
    cache().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache()).free / 1e9
    if free < NEEDED_DISK_GB:
        raise Unavailable(
            f"{free:.0f} GB free in {cache()}, and a build of {program.name} needs {NEEDED_DISK_GB}"
        )


@contextmanager
def _one_at_a_time(target: Path) -> Iterator[None]:
    """Two test sessions that need the same program build it once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(program: Program, target: Path) -> None:
    """Build beside the target and rename: a build that was cut off leaves nothing that looks finished."""
    partial = target.with_name(f"{program.name}.{os.getpid()}")
    say(f"building {program.name} from {program.package} (minutes the first time) ...")
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
    with _compiled(fcntl.LOCK_SH) as compiled:
        environment = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(compiled)}
        go = subprocess.run(
            command, cwd=program.module, env=environment, capture_output=True, text=True, check=False
        )
    if go.returncode:
        raise Unavailable(f"go could not build {program.name}: {go.stderr.strip()[-1000:]}")
    partial.rename(target)
    say(f"built {program.name} in {time.monotonic() - started:.0f} s")


@contextmanager
def _compiled(lock: int) -> Iterator[Path]:
    """What Go has compiled so far. Those who build share it; who removes it is alone.

    Raises `BlockingIOError` when the lock is asked for with `LOCK_NB` and others hold it.
    """
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "compiled.lock").open("w") as held:
        fcntl.flock(held, lock)
        yield cache() / "compiled"


def forget_compiled() -> None:
    """Remove what Go has compiled, unless a build is under way."""
    try:
        with _compiled(fcntl.LOCK_EX | fcntl.LOCK_NB) as compiled:
            shutil.rmtree(compiled, ignore_errors=True)
    except BlockingIOError:
        say("another build is under way: what Go has compiled stays")


def say(line: str) -> None:
    """Tell the user what takes so long."""
    print(line, file=sys.__stderr__, flush=True)  # past pytest's capture: a silent minute looks like a hang


if __name__ == "__main__":
    try:
        for name, path in programs(*PROGRAMS).items():
            print(name, path)
        forget_compiled()
    except Unavailable as reason:
        sys.exit(f"tests that need a real cluster will be skipped: {reason}")
