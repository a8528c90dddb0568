"""Start and stop a real cluster on this machine. Needs root and Linux.

The cluster lives in network, process and mount namespaces of its own: this machine sees one interface of it, by which
it is reached, and its control groups. `boot.py` is its first process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import packages, places
from .api import Api
from .boot import CONTROL_PLANE_PROGRAMS, NODE_PROGRAMS, images_of
from .cluster import Cluster
from .network import NodeNetwork
from .places import Place
from .processes import DIE_WITH_PARENT, Failure, run
from .programs import Unavailable, programs

STARTED_WITHIN_S = 180
READY_WITHIN_S = 120
NAMESPACES = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=slave"]


@contextmanager
def cluster_of(nodes: int, plant: Callable[[Path], None] | None = None) -> Iterator[Cluster]:
    """A new cluster of so many real nodes, which ends with the block, or with this process however that ends.

    `plant` makes a folder the root of a containerd that has images; it is called for each node. If KUBECONFIG names a
    cluster that `make cluster` started, it is that cluster, and it stays.

    Raises `Unavailable` where none can be had, `Failure` when it does not start.
    """
    if os.environ.get("KUBECONFIG"):
        yield _given(Path(os.environ["KUBECONFIG"]), nodes, planted=plant is not None)
        return
    cluster, process = launch(nodes, ends_with_us=True, plant=plant)
    try:
        yield cluster
    finally:
        stop(cluster)
        process.wait()


def _given(kubeconfig: Path, nodes: int, *, planted: bool) -> Cluster:
    for cluster in running_clusters():
        if cluster.kubeconfig == kubeconfig and len(cluster.nodes) >= nodes and not planted:
            return cluster
    wanted = f"{nodes} nodes{' that have our images' if planted else ''}"
    raise Unavailable(
        f"KUBECONFIG={kubeconfig} names no cluster of `make cluster` with {wanted}; unset it to have one"
    )


def launch(
    nodes: int,
    *,
    ends_with_us: bool,
    tell: Callable[[str], None] = lambda line: None,
    plant: Callable[[Path], None] | None = None,
) -> tuple[Cluster, subprocess.Popen[bytes]]:
    """Start a cluster of so many real nodes; 0 is a control plane. It ends with `stop`, or also with this process.

    `tell` is called with each line of progress.

    Raises `Unavailable` where none can be had, `Failure` when it does not start.
    """
    packages.check()
    programs(*CONTROL_PLANE_PROGRAMS, *(NODE_PROGRAMS if nodes else []))
    place, lock = places.take()
    try:
        places.claim(place)
        place.run.mkdir(mode=0o700)
        if plant:
            for index in range(nodes):
                plant(images_of(place, NodeNetwork(index)))
        process = _unshare(place, nodes, lock, ends_with_us=ends_with_us)
    finally:
        os.close(lock)  # the first process inside holds it from now on
    try:
        return _ready(_Start(place, process, tell), nodes, ends_with_us=ends_with_us), process
    except BaseException:
        process.kill()
        process.wait()
        _clear(place)
        raise


def stop(cluster: Cluster) -> None:
    """Kill a cluster and remove all that is left of it."""
    with suppress(ProcessLookupError):
        os.kill(cluster.pid, signal.SIGKILL)
    _clear(cluster.place)


def running_clusters() -> Iterator[Cluster]:
    """Those of this user that were not started by tests."""
    for place in places.all_places():
        state = place.run / "state.json"
        if state.exists() and places.is_in_use(place):
            found = json.loads(state.read_text())
            if not found["ends_with_us"]:
                yield _cluster(place, found["pid"], found["nodes"])


@dataclass
class _Start:
    """A cluster that is being started in a place, by a process."""

    place: Place
    process: subprocess.Popen[bytes]
    tell: Callable[[str], None]
    told: int = 0
    """So many lines of its log."""

    def wait(self, happens: Callable[[], object], what: str, within_s: float) -> None:
        """Return once it `happens`, telling what is new meanwhile.

        Raises `Failure` when it does not.
        """
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


def _unshare(place: Place, nodes: int, lock: int, *, ends_with_us: bool) -> subprocess.Popen[bytes]:
    boot = [sys.executable, "-m", "kube.boot", str(place.number), str(nodes)]
    libc = ctypes.CDLL(None)
    with (place.run / "boot.log").open("wb") as log:
        return subprocess.Popen(
            ["unshare", *NAMESPACES, "--", *boot],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(DIE_WITH_PARENT, signal.SIGKILL) if ends_with_us else None,  # noqa: PLW1509
        )


def _ready(start: _Start, nodes: int, *, ends_with_us: bool) -> Cluster:
    parent, folder = start.process.pid, start.place.run
    children = Path(f"/proc/{parent}/task/{parent}/children")
    start.wait(children.read_text, "process inside new namespaces", 10)
    pid = int(children.read_text())
    state = {"pid": pid, "nodes": nodes, "ends_with_us": ends_with_us}
    (folder / "state.json").write_text(json.dumps(state))
    _link(start.place, pid)
    start.wait((folder / "started").exists, "start of all programs", STARTED_WITHIN_S)
    cluster = _cluster(start.place, pid, nodes)
    start.wait(lambda: _is_usable(cluster), "node that is ready", READY_WITHIN_S)
    return cluster


def _cluster(place: Place, pid: int, nodes: int) -> Cluster:
    names = tuple(NodeNetwork(index).name for index in range(nodes))
    return Cluster(Api.of(place.run / "admin.kubeconfig"), names, place, pid)


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


def _clear(place: Place) -> None:
    """Wait for the end of what was killed, and clear."""
    deadline = time.monotonic() + places.BUSY_S
    while (lock := places.lock_of(place)) is None:
        if time.monotonic() > deadline:
            raise Failure(f"the cluster in {place.folder} was killed and still runs after {places.BUSY_S} s")
        time.sleep(0.02)
    places.clear(place)
    os.close(lock)
