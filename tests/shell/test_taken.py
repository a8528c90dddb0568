"""Pods that were taken away without a word: what the others of their gang end with for want of them is no failure."""

from __future__ import annotations

import asyncio
import random

import pytest

from builders import JOB, a_job, a_status
from kube.api import Manifest
from rljob_api.failure import RoleName
from rljob_api.progress import Ending
from rljob_operator import names
from rljob_operator.cluster.children import Pods, key_of

from . import virtual_time
from .memory_client import CHANCES, Faults
from .nodes import LEAVINGS
from .test_faults import befall
from .world import World

SCHEDULES = 30
NO_RESTARTS = {"backoffSeconds": {"initial": 1, "max": 4}, "maxRestarts": 0}
"""The first failure would be the job's."""

pytestmark = pytest.mark.usefixtures("virtual_time")


async def phase_after(*blows: str) -> str:
    """Of a job of two trainers and no restarts, at once after each other."""
    world = World()
    async with world.alive():
        world.start_operator()
        world.submit("demo", trainer={"numNodes": 2}, failurePolicy=NO_RESTARTS)
        await world.comes(lambda: len(world.running()) == 3)
        for blow in blows:
            if blow == "vanishes":
                world.nodes.vanish("demo-trainer-1-1")
            else:
                world.nodes.end("demo-trainer-0-1", Ending.FAILED, 1)
        await world.comes(lambda: world.phases()["demo"] in ("Complete", "Failed"))
        return world.phases()["demo"]


def test_who_meets_a_closed_connection_before_it_is_told_to_go_did_not_fail() -> None:
    assert virtual_time.run(phase_after("vanishes", "fails")) == "Complete"


def test_who_failed_before_the_other_was_taken_away_did() -> None:
    assert virtual_time.run(phase_after("fails", "vanishes")) == "Failed"


HAPPENINGS = ("evict", "evict", "vanish", "vanish", "suspend", "full nodes", "crash")


async def only_taken(seed: int) -> None:
    """A minute in which pods are evicted and vanish, those that are told to go end badly, and operators die; nothing
    fails by itself."""
    dice = random.Random(seed)
    random.seed(seed)
    chances = {key: dice.choice([0.0, 0.02, 0.1]) for key in CHANCES}
    world = World(Faults(dice=dice, **chances), dice.uniform(5, 40), dice.choice([0, 3, 10]))
    world.nodes.leavings, world.nodes.dice = LEAVINGS, dice
    async with world.alive():
        world.start_operator()
        world.submit("a", trainer={"numNodes": 3}, failurePolicy=NO_RESTARTS)
        world.submit("b", trainer={"numNodes": 2}, rollout={"replicas": 2}, failurePolicy=NO_RESTARTS)
        for _ in range(dice.randint(2, 6)):
            await asyncio.sleep(dice.uniform(0.5, 12))
            await befall(world, dice, dice.choice(HAPPENINGS))
        world.faults.end()
        await world.comes(lambda: set(world.phases().values()) == {"Complete"}, seconds=1200)
    counted = [job["status"].get("restartsCountTowardsMax", 0) for job in world.jobs().values()]
    assert counted == [0, 0]


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_a_job_whose_pods_were_only_taken_away_never_fails(seed: int) -> None:
    virtual_time.run(only_taken(seed))


def a_trainer(index: int, version: int, phase: str = "Running", **metadata: object) -> Manifest:
    """As the API server has it."""
    name = names.trainer_pod(JOB, index, 1)
    known: Manifest = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "labels": names.pod_labels(JOB, RoleName.TRAINER, index, 1),
        "ownerReferences": [{"uid": a_job().metadata.uid, "controller": True}],
        "resourceVersion": str(version),
    }
    return {"metadata": {**known, **metadata}, "status": {"phase": phase}}


ASKED: Manifest = {"deletionTimestamp": "2026-01-01T00:01:00Z", "deletionGracePeriodSeconds": 0}
"""As the API server marks a pod before it removes it, whatever became of it before."""


def two_trainers() -> Pods:
    pods = Pods(lambda _: None)
    pods.changed(a_trainer(0, version=1))
    pods.changed(a_trainer(1, version=2))
    return pods


def test_only_the_first_to_go_vanished() -> None:
    job = a_job(a_status(), trainer={"numNodes": 2})
    pods = two_trainers()
    assert not pods.has_vanished(job)
    pods.deleted(a_trainer(1, version=3, **ASKED))
    assert pods.has_vanished(job)
    pods.changed(a_trainer(1, version=4, uid="another"))
    assert not pods.has_vanished(job), "it was made again"
    pods.forget(key_of(job))
    pods.changed(a_trainer(0, version=5, phase="Failed"))
    pods.deleted(a_trainer(1, version=6, uid="another", **ASKED))
    assert not pods.has_vanished(job), "another had ended before"


def test_one_that_vanished_in_an_attempt_before_says_nothing_of_this_one() -> None:
    pods, job = two_trainers(), a_job(a_status(), trainer={"numNodes": 2})
    pods.deleted(a_trainer(1, version=3, **ASKED))
    assert not pods.has_vanished(a_job(a_status(2)))
    pods.forget(key_of(job), before_attempt=1)
    assert pods.has_vanished(job)
    pods.forget(key_of(job), before_attempt=2)
    assert not pods.has_vanished(job)


@pytest.mark.parametrize("told_first", [False, True])
def test_who_ended_and_was_removed_then_was_not_told_to_go_before(told_first: bool) -> None:
    """Whoever removes a pod that has ended marks it the same way."""
    pods, job = two_trainers(), a_job(a_status(), trainer={"numNodes": 2})
    asked: Manifest = {**ASKED, "deletionGracePeriodSeconds": 30} if told_first else {}
    pods.changed(a_trainer(0, version=3, **asked))
    pods.changed(a_trainer(0, version=4, phase="Failed", **asked))
    pods.changed(a_trainer(0, version=5, phase="Failed", **ASKED))
    pods.deleted(a_trainer(0, version=6, phase="Failed", **ASKED))
    departed = next(pod for pod in pods.observed(job) if pod.index == 0)
    assert (departed.ended, departed.terminating) == (True, told_first)
