"""What the operator tells Prometheus of itself is true."""

from __future__ import annotations

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from rljob_api.base import Manifest
from rljob_operator.cluster.client import verb
from rljob_operator.cluster.resources import JOBS, LEASES, PODS
from rljob_operator.job_metrics import JobMetrics
from rljob_operator.jobs import Jobs
from rljob_operator.times import to_text

from . import virtual_time
from .world import World, until

LEASE = LEASES.path("default", "lease")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", PODS.path(), "LIST"),
        ("GET", PODS.path("a"), "LIST"),
        ("GET", JOBS.path(), "LIST"),
        ("GET", JOBS.path("namespaces"), "LIST"),
        ("GET", PODS.path("a", "b"), "GET"),
        ("GET", LEASES.path("a", "b"), "GET"),
        ("POST", PODS.path("a"), "POST"),
        ("PUT", JOBS.path("a", "b", "status"), "PUT"),
    ],
)
def test_a_list_is_told_from_a_get(method: str, path: str, expected: str) -> None:
    assert verb(method, path) == expected


async def depth_after_losing_the_lease() -> float | None:
    """Once the deadline of a job, which the operator was to be woken for, has passed too."""
    world = World()
    world.start_operator()
    async with world.alive():
        world.submit(activeDeadlineSeconds=30)
        assert await until(lambda: len(world.running()) == 2)
        for number in range(20):
            world.api.merge(LEASE, {"spec": {"holderIdentity": "another", "renewTime": str(number)}})
            await asyncio.sleep(5)
        return REGISTRY.get_sample_value("rljob_operator_queue_depth")


@pytest.mark.usefixtures("virtual_time")
def test_who_does_not_lead_has_no_jobs_that_wait() -> None:
    assert virtual_time.run(depth_after_losing_the_lease()) == 0.0


async def phases_beside_a_job_of_another_manager() -> dict[str, float]:
    """As they are counted once the operator has heard of both."""
    world = World()
    world.start_operator()
    async with world.alive():
        world.submit("theirs", managedBy="kueue.x-k8s.io/multikueue")
        world.submit("ours")
        await world.comes(lambda: world.phases()["ours"] == "Complete")
        assert world.phases()["theirs"] == ""
        phases = next(iter(JobMetrics(lambda: world.operator.jobs).collect()))
        return {one.labels["phase"]: one.value for one in phases.samples}


@pytest.mark.usefixtures("virtual_time")
def test_a_job_of_another_manager_is_not_counted() -> None:
    assert virtual_time.run(phases_beside_a_job_of_another_manager()) == {"Complete": 1.0}


def told(status: Manifest, metric: str) -> list[float]:
    """The values of that metric for a job with that status."""
    jobs = Jobs(lambda key: None)
    metadata = {"name": "demo", "namespace": "team", "uid": "1", "resourceVersion": "7"}
    jobs.put({"metadata": metadata, "status": status})
    found = next(one for one in JobMetrics(lambda: jobs).collect() if one.name == metric)
    return [sample.value for sample in found.samples]


def test_restarts_preemptions_and_replaced_servers_are_told_apart() -> None:
    status = {"restarts": 5, "preemptions": 2, "rollout": {"restarts": 3}}
    kinds = ("restarts", "preemptions", "rollout_restarts")
    assert [told(status, f"rljob_job_{kind}") for kind in kinds] == [[5], [2], [3]]


def test_the_age_of_the_newest_checkpoint_is_told_while_a_job_runs() -> None:
    metric, saved_at = "rljob_job_checkpoint_age_seconds", int(time.time()) - 1000
    saved = {"checkpoint": {"latest": {"time": to_text(saved_at)}}}
    least = time.time() - saved_at
    (age,) = told({"phase": "Training", **saved}, metric)
    assert least <= age <= time.time() - saved_at
    assert told({"phase": "Training"}, metric) == []
    for still in ({"completionTime": to_text(time.time())}, {"phase": "Suspended"}):
        assert told(saved | still, metric) == []


def test_a_use_of_time_that_the_operator_before_did_not_know_took_none() -> None:
    goodput = {"percent": "90.0", "shares": {"productive": "90.0", "saving": "10.0"}}
    assert sum(told({"goodput": goodput}, "rljob_job_time_share")) == pytest.approx(1)
