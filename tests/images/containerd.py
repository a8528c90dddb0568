"""A containerd of our own, which starts nothing by itself, over a root folder that a node may use later."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kube.processes import Command, run, running, wait_until

CONFIG = """\
version = 2
root = "{root}"
state = "{folder}/state"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{folder}/socket"
"""


@dataclass(frozen=True)
class Containerd:
    """A containerd that runs."""

    socket: Path

    def ctr(self, *arguments: str | Path) -> Command:
        return ["ctr", "--address", self.socket, "--namespace", "k8s.io", *arguments]

    def answers(self) -> bool:
        """Its socket is there before it does."""
        return subprocess.run(self.ctr("version"), capture_output=True, check=False).returncode == 0

    def images(self) -> set[str]:
        return set(run(*self.ctr("images", "list", "--quiet")).split())

    def labels(self, blob: str) -> dict[str, str]:
        """What containerd has noted about a blob, a digest."""
        for line in run(*self.ctr("content", "list")).splitlines():
            digest, *_, labels = line.split("\t")
            if digest == blob:
                return dict(one.split("=", 1) for one in labels.split(","))
        return {}

    def collect_garbage(self) -> None:
        """Remove what nothing refers to, and return when that is done."""
        run(*self.ctr("leases", "create", "--id", "none"))
        run(*self.ctr("leases", "delete", "--sync", "none"))


@contextmanager
def containerd(root: Path) -> Iterator[Containerd]:
    """Ends with the block."""
    with tempfile.TemporaryDirectory(prefix="rljob-") as name:
        folder = Path(name)
        (folder / "config.toml").write_text(CONFIG.format(root=root, folder=folder))
        log = folder / "log"
        with running(["containerd", "--config", folder / "config.toml"], log) as process:
            found = Containerd(folder / "socket")
            wait_until(found.answers, "containerd answers", 300, process, log)
            yield found
            process.terminate()
            process.wait()
