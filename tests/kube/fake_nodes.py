"""Nodes that only say they run pods: thousands fit on one machine. By kwok, which plays their kubelets.

For any API server of ours. Where no scheduler runs, tests bind pods themselves, by `nodeName`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .api import Api, Manifest
from .processes import Command, running, wait_until
from .programs import programs

FAKE = {"kwok.x-k8s.io/node": "fake"}
"""Annotation and label of fake nodes; they have a taint of that name as well, which real pods do not tolerate."""
NODES = "/api/v1/nodes"
READY_WITHIN_S = 300
HEARTBEAT_S = 6


@contextmanager
def fake_nodes(
    api: Api, count: int, log: Path, *, gpus: int = 8, heartbeats: bool = False
) -> Iterator[list[str]]:
    """Names of so many fake nodes, all Ready; they go with the block.

    `heartbeats` are needed beside real nodes, where a controller looks for lost ones, and cost a write a node each 6 s.

    Raises `Unavailable` when kwok cannot be had.
    """
    selector = ",".join(f"{key}={value}" for key, value in FAKE.items())
    command: Command = [
        programs("kwok")["kwok"],
        f"--kubeconfig={api.kubeconfig}",
        f"--manage-nodes-with-annotation-selector={selector}",
        f"--node-lease-duration-seconds={4 * HEARTBEAT_S if heartbeats else 0}",
        "--v=WARN",
    ]
    names = [f"fake{index}" for index in range(count)]
    with running(command, log) as kwok:
        try:
            for name in names:
                answer = api.post(NODES, _node(name, gpus))
                assert answer.code == 201, answer.message
            wait_until(lambda: _ready(api) == count, "fake nodes are ready", READY_WITHIN_S, kwok, log)
            yield names
        finally:
            for name in names:
                api.delete(f"{NODES}/{name}")


def _node(name: str, gpus: int) -> Manifest:
    capacity = {"cpu": "256", "memory": "2Ti", "pods": "1000", "nvidia.com/gpu": str(gpus)}
    [(key, value)] = FAKE.items()
    return {
        "metadata": {"name": name, "annotations": FAKE, "labels": {**FAKE, "kubernetes.io/hostname": name}},
        "spec": {"taints": [{"key": key, "value": value, "effect": "NoSchedule"}]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _ready(api: Api) -> int:
    listed = api.get(
        f"{NODES}?labelSelector={'%2C'.join(f'{key}%3D{value}' for key, value in FAKE.items())}"
    ).body
    conditions = [each["status"].get("conditions", []) for each in listed.get("items", [])]
    return sum(
        {"type": "Ready", "status": "True"}.items() <= one.items() for each in conditions for one in each
    )
