"""Start and stop a real cluster on this machine. Needs root and Linux.

The cluster lives in network, process and mount namespaces of its own: this machine sees one interface of it, by which
it is reached, and its control groups. `boot.py` is its first process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import places, prerequisites
from .boot import CONTROL_PLANE_PROGRAMS, NODE_PROGRAMS, images_of
from .cluster import Cluster
from .network import NodeNetwork
from .places import Place
from .processes import Failure
from .programs import Unavailable, programs
from .start import Start


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


def check(nodes: int) -> None:
    """Raises `Unavailable` where no cluster of so many real nodes can be had. Builds the programs that it needs."""
    prerequisites.check()
    programs(*CONTROL_PLANE_PROGRAMS, *(NODE_PROGRAMS if nodes else []))


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
    check(nodes)
    place, lock = places.take()
    try:
        places.claim(place)
        place.run.mkdir(mode=0o700)
        if plant:
            for index in range(nodes):
                plant(images_of(place, NodeNetwork(index)))
        start = Start.begin(place, nodes, lock, tell, ends_with_us=ends_with_us)
    finally:
        os.close(lock)  # the first process inside holds it from now on
    try:
        return start.ready(), start.process
    except BaseException:  # also when it is interrupted: nothing may be left behind
        start.process.kill()
        start.process.wait()
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
                yield Cluster.at(place, found["pid"], found["nodes"])


def _clear(place: Place) -> None:
    """Wait for the end of what was killed, and clear."""
    deadline = time.monotonic() + places.BUSY_S
    while (lock := places.lock_of(place)) is None:
        if time.monotonic() > deadline:
            raise Failure(f"the cluster in {place.folder} was killed and still runs after {places.BUSY_S} s")
        time.sleep(0.02)
    places.clear(place)
    os.close(lock)
