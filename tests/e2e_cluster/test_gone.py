"""A silent node is deleted, or taken out of service, while its pods run on: the job goes on elsewhere, and the old
trainers, which still reach the volume and a server, may not use either any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kube.api import Manifest
from shell.places import condition

from .job import TRAINERS_NODE, Job

NODES = "/api/v1/nodes"
TAKEN_OVER = "may not write to"
"""What an attempt says that meets a newer one, see `rljob_trainer.checkpoint.fence`."""
TAKEN_OVER_SOMEWHERE = "any more: attempt"
"""The same, whether it meets it on the volume or at a server, see `rljob_trainer.rollout.client`."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"

pytestmark = pytest.mark.slow


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


def test_a_gang_does_not_wait_for_a_node_that_is_out_of_service(job: Job) -> None:
    """Kubernetes marks pods of a silent node as deleted, and keeps them until their kubelet says that they have ended;
    so long the operator starts no gang beside them. By the taint somebody vouches that nothing runs there any more:
    Kubernetes' garbage collector of pods, which looks every 20 s, then deletes by force what is so marked.

    Here that is not true, for only the kubelet stands still. The old trainers stop by themselves all the same.
    """
    put_in_place(job)
    before, saved, trainer = job.attempt(), job.saved(), job.trainer()
    told = log_of(job, trainer)
    with job.cluster.frozen("kubelet", TRAINERS_NODE):
        job.wait_for(lambda: is_told_to_go(job, trainer), "its trainers are told to go")
        assert (job.attempt(), list(job.nodes("trainer"))) == (before, [trainer])
        with out_of_service(job, TRAINERS_NODE):
            job.wait_for(lambda: job.is_back(after=before), "the gang is back")
            job.wait_for(lambda: set(job.nodes().values()) == {"node0"}, "all of it is on the other node")
            assert job.last_attempt()["fromStep"] >= saved
            job.wait_for(lambda: TAKEN_OVER_SOMEWHERE in told(), "the old trainers meet the new attempt")
            job.goes_on(after=job.last_attempt()["fromStep"])
    assert job.attempt() == before + 1
    job.wait_for(lambda: is_well(job, TRAINERS_NODE), "the node is back")


def is_told_to_go(job: Job, pod: str) -> bool:
    return "deletionTimestamp" in job.pods()[pod]["metadata"]


@contextmanager
def out_of_service(job: Job, node: str) -> Iterator[None]:
    """As a person says it who knows that the node is shut down."""
    job.cluster.kubectl("taint", "node", node, OUT_OF_SERVICE)
    try:
        yield
    finally:
        job.cluster.kubectl("taint", "node", node, f"{OUT_OF_SERVICE}-")


def is_well(job: Job, node: str) -> bool:
    """Whether it is ready, and takes every pod."""
    now = job.cluster.api.get(f"{NODES}/{node}").body
    return condition(now["status"], "Ready").get("status") == "True" and not now["spec"].get("taints")


def put_in_place(job: Job) -> None:
    """Trainers on their node, beside one of the servers: as the scheduler puts them when it may choose."""
    job.wait_for(lambda: is_well(job, TRAINERS_NODE), "the node takes pods")
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
