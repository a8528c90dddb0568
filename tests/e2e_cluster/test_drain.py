"""Nodes come and go under a job that trains: a drain, a deletion by force, a kubelet that is silent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .job import TRAINERS_NODE, Job

DRAIN = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=1200s"]
DRY_RUN = {"deleteOptions": {"dryRun": ["All"]}}


@pytest.fixture
def drained(job: Job) -> Iterator[str]:
    """The trainer's node, empty; it takes pods again after the test."""
    job.cluster.kubectl("drain", TRAINERS_NODE, *DRAIN)
    yield TRAINERS_NODE
    job.cluster.kubectl("uncordon", TRAINERS_NODE)


def test_pods_spread_so_that_a_node_can_go(job: Job) -> None:
    assert job.nodes("trainer") == {job.trainer(): TRAINERS_NODE}
    assert sorted(job.nodes("rollout").values()) == ["node0", "node1"]


def test_a_drain_loses_no_step_and_leaves_the_other_nodes_server_alone(
    job: Job, request: pytest.FixtureRequest
) -> None:
    (staying,) = (name for name, node in job.nodes("rollout").items() if node != TRAINERS_NODE)
    before, container, step = job.attempt(), job.container(staying), job.step()
    request.getfixturevalue("drained")
    assert job.evict(staying, **DRY_RUN).code == 429, "the budget gives away the only server that is ready"
    job.wait_for(lambda: job.is_back(after=before), "the gang is back")
    attempt = job.last_attempt()
    assert (attempt["number"], attempt["lostSteps"]) == (before + 1, 0)
    assert attempt["fromStep"] >= step
    job.goes_on(after=attempt["fromStep"])
    assert set(job.nodes().values()) == {"node0"}
    assert job.container(staying) == container


def test_a_trainer_pod_deleted_by_force_starts_again_from_its_checkpoint(job: Job) -> None:
    before, saved, servers = job.attempt(), job.saved(), set(job.nodes("rollout"))
    job.cluster.kubectl("delete", "pod", job.trainer(), "--force", "--grace-period=0")
    job.wait_for(lambda: job.is_back(after=before), "the gang is back")
    assert job.last_attempt()["fromStep"] >= saved
    job.goes_on(after=job.last_attempt()["fromStep"])
    assert set(job.nodes("rollout")) == servers


@pytest.mark.slow
def test_a_silent_node_is_named_and_the_trainer_gets_no_second_beside_it(job: Job) -> None:
    before, trainer = job.attempt(), job.trainer()
    node = job.nodes("trainer")[trainer]
    with job.cluster.frozen("kubelet", node):
        told = job.told("Progressing", "NodeLost")
        assert f"Node {node} is silent" in told
        assert f"kubectl delete node {node}" in told
        assert (job.attempt(), list(job.nodes("trainer"))) == (before, [trainer])
        stopped_at = job.step()
    job.wait_for(lambda: job.is_back(after=before), "the gang is back")
    assert job.last_attempt()["lostSteps"] == 0
    job.goes_on(after=stopped_at)
