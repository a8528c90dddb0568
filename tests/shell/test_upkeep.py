"""What an operator that runs for months keeps: nothing of jobs and pods that are gone."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from builders import JOB, a_job, a_status, manifest
from kube.api import Manifest
from rljob_api.failure import RoleName
from rljob_operator import names
from rljob_operator.cluster.children import Pods, key_of
from rljob_operator.cluster.resources import JOBS
from rljob_operator.handlers import Told
from rljob_operator.leader import Leader, Terms
from rljob_operator.run_cluster import SWEEP_AFTER_SECONDS, SWEEP_EVERY_SECONDS, Operator
from rljob_operator.settings import Settings

from . import virtual_time
from .memory_api import MemoryApi
from .memory_client import Faults, MemoryClient
from .virtual_time import CLOCK

pytestmark = pytest.mark.usefixtures("virtual_time")
NAMESPACE = "default"


class ListedAnew:
    """Tells of jobs as kopf does whose watch broke off, and whose next list shows none: nothing of their end."""

    def __init__(self, jobs: list[Manifest]) -> None:
        self._jobs = jobs

    async def run(self, told: Told) -> NoReturn:
        for job in self._jobs:
            told(None, job)
        while True:
            await asyncio.sleep(SWEEP_EVERY_SECONDS)


async def jobs_known() -> tuple[int, int]:
    """How many jobs are known before the last one is deleted, and how many a while later."""
    api = MemoryApi(CLOCK.text)
    job = api.post(JOBS.path(NAMESPACE), manifest() | {"metadata": {"name": "demo"}}).body
    client = MemoryClient(api, Faults())
    leader = Leader(client, Terms(NAMESPACE, "lease", "we", 15.0, 5.0))
    operator = Operator(client, leader, Settings(), ListedAnew([job]))
    running = asyncio.create_task(operator.run())
    await asyncio.sleep(2 * SWEEP_AFTER_SECONDS)
    before = len(operator.jobs or ())
    api.delete(JOBS.path(NAMESPACE, "demo"))
    await asyncio.sleep(SWEEP_EVERY_SECONDS)
    after = len(operator.jobs or ())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return before, after


def test_the_last_job_is_forgotten_even_if_nobody_tells_of_its_end() -> None:
    assert virtual_time.run(jobs_known()) == (1, 0)


def an_ended_trainer(version: int) -> Manifest:
    """As the API server has it."""
    name = names.trainer_pod(JOB, 0, 1)
    owner = {"uid": a_job().metadata.uid, "controller": True}
    labels = names.pod_labels(JOB, RoleName.TRAINER, 0, 1)
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": "uid",
        "labels": labels,
        "ownerReferences": [owner],
    }
    return {"metadata": metadata | {"resourceVersion": str(version)}, "status": {"phase": "Succeeded"}}


def test_a_pod_that_is_gone_is_neither_deleted_again_nor_remembered_as_asked_to_go() -> None:
    pods, job = Pods(lambda _: None), a_job(a_status())
    pods.changed(an_ended_trainer(version=1))
    (pod,) = pods.observed(job)
    assert pods.stays(key_of(job), pod)
    pods.deleted(an_ended_trainer(version=2))  # before the answer to its deletion
    pods.was_asked_to_go(key_of(job), pod)
    (departed,) = pods.observed(job)
    assert not pods.stays(key_of(job), departed)
    assert pods.asked_to_go == set()
