"""A gang that the real API server refuses pods gives back what it got, and tries again: by an operator in this process
that is impatient, for half a minute of patience would be waited for otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from rljob_operator import names
from rljob_operator.cluster.client import Client, configuration
from rljob_operator.decide import placement
from rljob_operator.leader import Leader, Terms
from rljob_operator.run_cluster import Operator
from rljob_operator.settings import Settings

from .memory_client import ListedJobs
from .places import Place

FEW, ENOUGH = 1, 9


def test_a_gang_over_the_quota_gives_its_pods_back_and_runs_once_there_is_room(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "REFUSAL_PATIENCE_SECONDS", 1)
    place.quota(FEW)
    with operator_here(place):
        place.submit(trainer={"numNodes": 2})
        told = place.until_reason("PodsReady", "QuotaExceeded")
        given_back = place.until_status(lambda status: status["attempt"].get("givenBackReason"))
        place.until(lambda: not place.pods())
        place.quota(ENOUGH)
        begun = place.until_status(
            lambda status: status["attempt"]["number"] > given_back["attempt"]["number"]
        )
        last = place.until(lambda: last_attempt_with_pods(place))
    assert "exceeded quota: few" in told["message"]
    assert begun["attempt"]["triesInARow"] >= 1
    assert place.status().get("restarts", 0) == 0
    assert {name for name in place.pods() if "-trainer-" in name} == {
        names.trainer_pod("demo", node, last) for node in (0, 1)
    }


def last_attempt_with_pods(place: Place) -> int:
    """The number of the attempt, once all its pods are there; else 0."""
    number = int(place.status()["attempt"]["number"])
    wanted = {names.trainer_pod("demo", node, number) for node in (0, 1)}
    return number if wanted <= set(place.pods()) else 0


@contextmanager
def operator_here(place: Place) -> Iterator[None]:
    """In a thread of this process, with the operator's account and its rights. What ends it before is raised."""
    with closing(asyncio.new_event_loop()) as loop, ThreadPoolExecutor(1) as thread:
        work = loop.create_task(run(place.kubeconfig(), place.namespace))
        at_work = thread.submit(loop.run_until_complete, work)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(work.cancel)
            with suppress(asyncio.CancelledError):
                at_work.result()


async def run(account: Path, namespace: str) -> None:
    async with Client(await configuration(account)) as client:
        leader = Leader(client, Terms(namespace, "lease", "here", 15.0, 5.0))
        settings = Settings(namespaces=[namespace])
        await Operator(client, leader, settings, ListedJobs(client, namespace)).run()
