"""Prometheus and its promtool: those of the machine, else unpacked from Debian's package into the user's cache."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kube.programs import Unavailable, cache, say


def prometheus(name: str) -> Path:
    """The path of `prometheus` or `promtool`. Nothing is installed, so nothing is started.

    Raises `Unavailable` where there is neither the program nor Debian.
    """
    if found := shutil.which(name):
        return Path(found)
    target = cache() / "debian" / "prometheus"
    if not target.exists():
        _unpack(target)
    return target / "usr" / "bin" / name


def _unpack(target: Path) -> None:
    if shutil.which("apt-get") is None:
        raise Unavailable("no promtool here, and no Debian to take it from: install Prometheus")
    partial = target.with_name("prometheus.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    say("unpacking Debian's prometheus ...")
    _run("apt-get", "download", "prometheus", folder=partial)
    (package,) = partial.glob("*.deb")
    _run("dpkg-deb", "--extract", package.name, ".", folder=partial)
    package.unlink()
    partial.rename(target)


def _run(*command: str, folder: Path) -> None:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    if ended.returncode:
        raise Unavailable(
            f"no promtool here, and `{' '.join(command)}` failed: {ended.stderr.strip()[-500:]}"
        )


@dataclass(frozen=True)
class Promtool:
    program: Path

    def __call__(self, *arguments: str | Path) -> str:
        """What promtool says.

        Raises `AssertionError` when it finds a fault.
        """
        command: list[str | Path] = [self.program, *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout
