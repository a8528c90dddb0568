"""Fake nodes: ready at once, and their pods run, end and go as on real ones, without a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from kube.api import Api, Manifest
from kube.cluster import Cluster
from kube.fake_nodes import FAKE, fake_nodes
from kube.fixtures import skipped_if_unavailable
from kube.pods import PODS, busybox, create, delete, eventually, is_in_phase, is_unplaceable, wait_for
from kube.programs import programs

GPU = {"resources": {"limits": {"nvidia.com/gpu": 8}}}
TOLERATED = [{"operator": "Exists"}]


def _wanting(name: str) -> Manifest:
    """A pod that wants all GPUs of a fake node."""
    return busybox(name, "", container=GPU, tolerations=TOLERATED, nodeSelector=FAKE)


@pytest.fixture(autouse=True)
def able() -> None:
    with skipped_if_unavailable():
        programs("kwok")


def test_a_bound_pod_runs_without_a_scheduler(api_server: Api, tmp_path: Path) -> None:
    with fake_nodes(api_server, 20, tmp_path / "kwok.log") as names:
        account = {"metadata": {"name": "default"}}
        api_server.post("/api/v1/namespaces/default/serviceaccounts", account)  # no controller makes it here
        name = create(api_server, busybox("bound", "", nodeName=names[7]))
        assert wait_for(api_server, name, is_in_phase("Running"))["status"]["podIP"]
        delete(api_server, name)


def test_the_scheduler_counts_their_gpus(cluster: Cluster, tmp_path: Path) -> None:
    """Beside a real node, to which such a pod does not go."""
    with fake_nodes(cluster.api, 2, tmp_path / "kwok.log", gpus=8, heartbeats=True) as names:
        pods = [create(cluster.api, _wanting(f"gpu-{index}")) for index in range(3)]

        def placed() -> dict[str, str]:
            """Node of each pod that runs. Which of the three it is that waits, the scheduler decides."""
            found = [cluster.api.get(f"{PODS}/{each}").body for each in pods]
            running = filter(is_in_phase("Running"), found)
            return {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in running}

        eventually(lambda: sorted(placed().values()) == names, "a pod runs on each node")
        (waiting,) = set(pods) - placed().keys()
        wait_for(cluster.api, waiting, is_unplaceable)
        for each in pods:
            delete(cluster.api, each)
