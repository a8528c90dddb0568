"""Prometheus and its promtool: those of the machine, else unpacked from Debian's package into the user's cache."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kube.api import Manifest
from kube.processes import Command, Failure, run, running, wait_until
from kube.programs import Unavailable, cache, say
from ports import free_port


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
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
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
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@dataclass(frozen=True)
class Prometheus:
    """A server that runs."""

    url: str
    before: Command
    """Before commands that reach it: nothing, or what enters its network."""

    def values(self, query: str) -> list[str]:
        """The values that a query returns now."""
        return [each["value"][1] for each in self._get("query", {"query": query})["result"]]

    def labels(self, series: str, label: str) -> set[str]:
        """The values that a label of a series has."""
        return set(self._get(f"label/{label}/values", {"match[]": series}))

    def is_ready(self) -> bool:
        try:
            return "Ready" in self._read("-/ready")
        except Failure:
            return False

    def _get(self, path: str, parameters: dict[str, str]) -> Any:
        return json.loads(self._read(f"api/v1/{path}?{urllib.parse.urlencode(parameters)}"))["data"]

    def _read(self, path: str) -> str:
        return run(*self.before, sys.executable, "-I", "-c", READ, f"{self.url}/{path}")


READ = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=300).read().decode())"


@contextmanager
def scraping(configs: list[Manifest], folder: Path, before: Command | None = None) -> Iterator[Prometheus]:
    """A Prometheus on loopback that scrapes what `configs` say, every other second: a busy process needs one to answer.

    Raises `Unavailable` where there is none, `Failure` when it does not start.
    """
    pace = {"scrape_interval": "2s", "scrape_timeout": "2s"}
    (folder / "prometheus.yml").write_text(json.dumps({"global": pace, "scrape_configs": configs}))
    server, log = Prometheus(f"http://127.0.0.1:{free_port()}", before or []), folder / "log"
    flags = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    address = f"--web.listen-address={server.url.removeprefix('http://')}"
    with running([*server.before, prometheus("prometheus"), *flags, address], log) as process:
        wait_until(server.is_ready, "Prometheus is ready", 300, process, log)
        yield server
