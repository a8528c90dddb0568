"""A node that is cut off is deleted while its pods run on: the job goes on elsewhere, and the old trainers, which still
reach the volume and a server beside them, may not write to it any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kube.api import Manifest

from .job import TRAINERS_NODE, Job

NODES = "/api/v1/nodes"
TAKEN_OVER = "may not write to"
"""What an attempt says that meets a newer one, see `rljob_trainer.checkpoint.fence`."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_old_trainers_on_a_deleted_node_stop_before_they_write(
    job: Job, request: pytest.FixtureRequest
) -> None:
    put_in_place(job)
    before, saved, node = job.attempt(), job.saved(), job.cluster.api.get(f"{NODES}/{TRAINERS_NODE}").body
    (staying,) = (name for name, at in job.nodes("rollout").items() if at != TRAINERS_NODE)
    container, told = job.container(staying), log_of(job, job.trainer())
    request.addfinalizer(lambda: reconnect(job, node))
    job.cluster.cut_off(TRAINERS_NODE)
    job.cluster.kubectl("delete", "node", TRAINERS_NODE)
    job.wait_for(lambda: job.is_back(after=before), "the gang is back on the other node")
    assert set(job.nodes().values()) == {"node0"}
    assert job.last_attempt()["fromStep"] >= saved
    job.wait_for(lambda: TAKEN_OVER in told(), "the old trainers meet the new attempt, and stop")
    job.goes_on(after=job.last_attempt()["fromStep"])
    assert (job.attempt(), job.container(staying)) == (before + 1, container)


def put_in_place(job: Job) -> None:
    """Trainers on their node, beside one of the servers: as the scheduler puts them when it may choose."""
    trainers, servers = job.nodes("trainer"), job.nodes("rollout")
    wrong = [name for name, node in trainers.items() if node != TRAINERS_NODE]
    if TRAINERS_NODE not in servers.values():
        wrong.append(max(servers))
    if wrong:
        job.cluster.kubectl("delete", "pods", *wrong)
    job.wait_for(lambda: is_in_place(job), "trainers and servers are where they were at first")


def is_in_place(job: Job) -> bool:
    at_home = job.nodes("trainer") == {job.trainer(): TRAINERS_NODE}
    return at_home and sorted(job.nodes("rollout").values()) == ["node0", TRAINERS_NODE] and job.is_whole()


def log_of(job: Job, pod: str) -> Callable[[], str]:
    """What a pod says, by the file on its node: nobody else can tell of one that is cut off."""
    (folder,) = (job.cluster.folder / TRAINERS_NODE / "logs").glob(f"*_{pod}_*")

    def read() -> str:
        files: list[Path] = sorted(folder.glob("trainer/*.log"))
        return "".join(each.read_text(errors="replace") for each in files)

    return read


def reconnect(job: Job, node: Manifest) -> None:
    """As a kubelet does that is started again: it makes its node anew, and clears away what it no longer should run."""
    meta = {"name": TRAINERS_NODE, "labels": node["metadata"]["labels"]}
    job.cluster.reconnect(TRAINERS_NODE)
    answer = job.cluster.api.post(NODES, {"metadata": meta})
    assert answer.code in (201, 409), answer.message  # 409: it is there still, when the test ended early
    job.wait_for(lambda: job.ready() == "2/2", "both servers are ready")
