"""From an empty place to a cluster that is ready: what `launch.py` does of it outside the cluster's namespaces."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pids import children

from . import prerequisites
from .cluster import Cluster
from .places import Place
from .processes import DIE_WITH_PARENT, Failure, run

STARTED_WITHIN_S = 300
READY_WITHIN_S = 300


@dataclass
class Start:
    """A cluster that is being started."""

    place: Place
    nodes: int
    ends_with_us: bool
    process: subprocess.Popen[bytes]
    """unshare(1): the parent of the first process inside, which ends with it."""
    tell: Callable[[str], None]
    told: int = 0
    """So many lines of progress."""

    @classmethod
    def begin(
        cls, place: Place, nodes: int, lock: int, tell: Callable[[str], None], *, ends_with_us: bool
    ) -> Start:
        """Start the first process inside new namespaces; it inherits the lock on the place.

        For `noqa` see `processes.start`.
        """
        boot = [sys.executable, "-m", "kube.boot", str(place.number), str(nodes)]
        libc = ctypes.CDLL(None)
        with (place.run / "boot.log").open("wb") as log:
            process = subprocess.Popen(
                ["unshare", *prerequisites.NAMESPACES, "--", *boot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(DIE_WITH_PARENT, signal.SIGKILL) if ends_with_us else None,  # noqa: PLW1509
            )
        return cls(place, nodes, ends_with_us, process, tell)

    def ready(self) -> Cluster:
        """The cluster once all nodes are ready and pods can be created.

        Raises `Failure` when that does not happen.
        """
        pid = self._first_process()
        _link(self.place, pid)
        self._wait((self.place.run / "started").exists, "start of all programs", STARTED_WITHIN_S)
        cluster = Cluster.at(self.place, pid, self.nodes)
        self._wait(lambda: _is_usable(cluster), "node that is ready", READY_WITHIN_S)
        return cluster

    def _first_process(self) -> int:
        """Its number, which is written down for whoever wants to stop the cluster."""
        self._wait(lambda: children(self.process.pid), "process inside new namespaces", STARTED_WITHIN_S)
        (pid,) = children(self.process.pid)
        state = {"pid": pid, "nodes": self.nodes, "ends_with_us": self.ends_with_us}
        (self.place.run / "state.json").write_text(json.dumps(state))
        return pid

    def _wait(self, happens: Callable[[], object], what: str, within_s: float) -> None:
        """Return once it `happens`, telling what is new meanwhile."""
        deadline = time.monotonic() + within_s
        while not happens():
            lines = (self.place.run / "boot.log").read_text().splitlines()
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = "\n".join(lines[-30:])
                raise Failure(f"no {what} within {within_s:.0f} s; the log in {self.place.run} ends:\n{said}")
            for line in lines[self.told :]:
                self.tell(line)
            self.told = len(lines)
            time.sleep(0.05)


def _link(place: Place, pid: int) -> None:
    """Join this machine and the cluster by a pair of interfaces."""
    run("ip", "link", "add", place.link, "type", "veth", "peer", "name", "machine", "netns", str(pid))
    run("ip", "address", "add", f"{place.near}/30", "dev", place.link)
    run("ip", "link", "set", place.link, "up")
    inside = ["nsenter", "--target", str(pid), "--net", "--"]
    run(*inside, "ip", "address", "add", f"{place.far}/30", "dev", "machine")
    run(*inside, "ip", "link", "set", "machine", "up")


def _is_usable(cluster: Cluster) -> bool:
    """All nodes are Ready, and a pod can be created: it needs the account that a controller makes."""
    nodes = cluster.api.get("/api/v1/nodes").body.get("items", [])
    ready = [node for node in nodes if _is_ready(node["status"].get("conditions", []))]
    account = cluster.api.get("/api/v1/namespaces/default/serviceaccounts/default")
    return len(ready) == len(cluster.nodes) and account.code == 200


def _is_ready(conditions: list[dict[str, str]]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
