"""What is left of a cluster when it ends, in whatever way: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kube import places
from kube.cgroups import folders
from kube.cluster import Cluster
from kube.fixtures import skipped_if_unavailable
from kube.launch import check, cluster_of, running_clusters, stop
from kube.places import Place
from kube.pods import busybox, create, eventually, is_in_phase, wait_for
from kube.processes import run
from kube.programs import Unavailable, cache

TESTS = Path(__file__).parents[1]
HOLDS_A_CLUSTER = """
from kube.launch import cluster_of
with cluster_of(nodes=1) as cluster:
    print(cluster.place.number, cluster.pid, flush=True)
    input()
"""
KINDS = ("net", "pid", "mnt")


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with skipped_if_unavailable():
        check(nodes=1)


def namespaces(pid: int | str) -> set[str]:
    try:
        return {str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in KINDS}
    except OSError:  # it ended meanwhile, or may not be asked; then it is none of ours
        return set()


def traces(place: Place, of: set[str]) -> dict[str, list[str]]:
    """All that this machine has of a cluster with these namespaces in this place."""
    found = {
        "processes": [each.name for each in Path("/proc").glob("[0-9]*") if namespaces(each.name) & of],
        "interfaces": [each.name for each in Path("/sys/class/net").iterdir() if each.name == place.link],
        "control groups": [str(each) for each in folders(place.cgroup) if each.exists()],
        "files": [each.name for each in place.folder.iterdir() if each.name != "lock"],
        "mounts": [
            each for each in Path("/proc/mounts").read_text().splitlines() if str(place.folder) in each
        ],
    }
    return {kind: which for kind, which in found.items() if which}


def own_namespaces(pid: int) -> set[str]:
    return namespaces(pid) - namespaces("self")


def let_a_pod_run(cluster: Cluster) -> None:
    create(cluster.api, busybox("lives", "sleep 1000"))
    wait_for(cluster.api, "lives", is_in_phase("Running"))


def test_nothing_is_left_of_a_cluster_that_was_stopped() -> None:
    outside = {
        each: sorted(Path(each).iterdir()) for each in ("/var/lib", "/var/log", "/usr/libexec", "/opt")
    }
    with cluster_of(nodes=1) as cluster:
        let_a_pod_run(cluster)
        own = own_namespaces(cluster.pid)
        assert len(own) == len(KINDS)
        seen = traces(cluster.place, own)
        # no mounts, even now: this machine does not see them
        assert seen.keys() == {"processes", "interfaces", "control groups", "files"}
        assert len(seen["processes"]) > 8
    assert traces(cluster.place, own) == {}
    assert outside == {each: sorted(Path(each).iterdir()) for each in outside}


def test_what_a_killed_cluster_left_is_cleared_by_the_next() -> None:
    command = [sys.executable, "-c", HOLDS_A_CLUSTER]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=paths
    ) as holder:
        assert holder.stdout is not None
        number, pid = map(int, holder.stdout.readline().split())
        place, own = Place(number), own_namespaces(pid)
        holder.kill()
    eventually(
        lambda: "processes" not in traces(place, own), "the kernel kills what a killed test had started"
    )
    assert {"control groups", "files"} <= traces(place, own).keys()
    with cluster_of(nodes=1) as again:
        let_a_pod_run(again)
    assert traces(place, own) == {}


@pytest.mark.usefixtures("other_cache")
def test_what_others_made_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = Place(200), Place(201)
    monkeypatch.setattr(places, "all_places", lambda: [theirs, ours])
    run("ip", "link", "add", theirs.link, "type", "veth", "peer", "name", "other")
    try:
        place, lock = places.take()
        os.close(lock)
        assert place == ours
        assert Path("/sys/class/net", theirs.link).exists()
    finally:
        run("ip", "link", "delete", theirs.link)


@pytest.fixture
def other_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The programs of this user, and places of our own."""
    with tempfile.TemporaryDirectory(
        prefix="kube-"
    ) as folder:  # tmp_path is too long for the names of sockets
        Path(folder, "rljob").mkdir()
        Path(folder, "rljob", "bin").symlink_to(cache() / "bin")
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        yield
        for left in running_clusters():
            stop(left)


@pytest.mark.usefixtures("other_cache")
def test_a_cluster_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make cluster` and `make cluster-down`."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))

    def kube(*arguments: str) -> str:
        return run(sys.executable, "-m", "kube", *arguments)

    with pytest.raises(Exception, match="kube: SIZE is 0, 1 or 2, not 3"):
        kube("up", "3")
    assert "1 real node is up after" in kube("up")
    assert "1 real node is up already" in kube("up")
    with pytest.raises(Exception, match="a cluster with 1 real node is up; `make cluster-down` first"):
        kube("up", "2")
    assert kube("kubectl", "get", "nodes", "--output=name") == "node/node0\n"
    assert "10.244.0.1/24" in kube("run", "ip", "address", "show", "br-kube")
    [cluster] = running_clusters()
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with cluster_of(nodes=1) as given:
        assert given.pid == cluster.pid
    with pytest.raises(Unavailable, match="names no cluster of `make cluster` with 2 nodes"):
        cluster_of(nodes=2).__enter__()
    own = own_namespaces(cluster.pid)
    assert "the cluster is down" in kube("down")
    eventually(lambda: traces(cluster.place, own) == {}, "nothing is left, once init has taken notice")
    assert kube("down") == "no cluster is up\n"
    monkeypatch.setenv("KUBECONFIG", "mine.yaml")
    assert "KUBECONFIG names a cluster already (mine.yaml)" in kube("up")


def test_a_cache_whose_path_is_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("long" * 16)))
    with pytest.raises(Unavailable, match=r"longlong.* set XDG_CACHE_HOME to a shorter path"):
        places.take()
