"""Bugs that we plant in our own code, one at a time: faults or crashes must bring each to light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from rljob_api.status import Status
from rljob_operator import queue, run_cluster
from rljob_operator.cluster import kubernetes, objects, writer
from rljob_operator.cluster.client import ApiError
from rljob_operator.reconcile import reconcile

from . import virtual_time
from .test_crashes import Scenario, played, remains, rollout_fails, runs
from .test_faults import refused_suspension, schedule

pytestmark = pytest.mark.usefixtures("virtual_time")

gang = importlib.import_module("rljob_operator.decide.gang")  # the package exports a function of that name
Plant = Callable[[pytest.MonkeyPatch], None]
TRIALS = 40


def a_relist_forgets_deletions(patch: pytest.MonkeyPatch) -> None:
    def sweep(self: Any, scope: str, present: set[str], version: int) -> None:
        self._reached[scope] = version

    patch.setattr(objects.Objects, "sweep", sweep)


def a_failed_pass_is_not_tried_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.Queue, "failed", lambda self, key, at_least=0.0: self.done(key))


def a_change_during_a_pass_is_lost(patch: pytest.MonkeyPatch) -> None:
    original = queue.Queue.add

    def add(self: Any, key: Any) -> None:
        if key not in self._at_work:
            original(self, key)

    patch.setattr(queue.Queue, "add", add)


def a_delete_that_was_refused_counts_as_done(patch: pytest.MonkeyPatch) -> None:
    original = writer.Writer.delete

    async def delete(self: Any, *what: Any) -> None:
        try:
            await original(self, *what)
        except ApiError:
            return

    patch.setattr(writer.Writer, "delete", delete)


def the_config_map_comes_before_the_pods(patch: pytest.MonkeyPatch) -> None:
    original = kubernetes.KubernetesCluster._make

    async def make(self: Any, job: Any, wanted: list[Any]) -> None:
        await original(self, job, [one for one in wanted if one["kind"] != "Pod"])
        await original(self, job, wanted)

    patch.setattr(kubernetes.KubernetesCluster, "_make", make)


def pods_come_before_the_attempt_is_in_the_status(patch: pytest.MonkeyPatch) -> None:
    original = reconcile

    async def eager(job: Any, cluster: Any, settings: Any, now: float) -> Any:
        class Unwritten:
            def __getattr__(self, name: str) -> Any:
                return getattr(cluster, name)

            async def write_status(self, job: Any, status: Status) -> None:
                return

        if job.status is None or job.status.attempt is None:
            done = await original(job, Unwritten(), settings, now)
            job = job.model_copy(update={"status": done.status})
        return await original(job, cluster, settings, now)

    patch.setattr(run_cluster, "reconcile", eager)


def the_same_attempt_begins_again(patch: pytest.MonkeyPatch) -> None:
    """A gang that ended starts anew under its old number."""
    original = gang.next_attempt

    def same(job: Any, *more: Any, **named: Any) -> Any:
        new = original(job, *more, **named)
        before = job.status.attempt if job.status else None
        return new.model_copy(update={"number": before.number}) if before else new

    patch.setattr(gang, "next_attempt", same)


def a_gang_starts_beside_the_old_one(patch: pytest.MonkeyPatch) -> None:
    original = gang._start

    def start(job: Any, *more: Any) -> Any:
        *known, stale = more
        return original(job, *known, tuple(replace(pod, phase="Failed") for pod in stale))

    patch.setattr(gang, "_start", start)


def a_status_that_was_refused_counts_as_written(patch: pytest.MonkeyPatch) -> None:
    original = writer.Writer.put_status

    async def put_status(self: Any, manifest: Any) -> Any:
        try:
            return await original(self, manifest)
        except ApiError:
            return manifest | {"metadata": manifest["metadata"] | {"resourceVersion": str(10**9)}}

    patch.setattr(writer.Writer, "put_status", put_status)


def a_pod_is_deleted_before_its_end_is_counted(patch: pytest.MonkeyPatch) -> None:
    async def hasty(job: Any, cluster: Any, settings: Any, now: float) -> Any:
        return await reconcile(job, DeletesFirst(cluster), settings, now)

    patch.setattr(run_cluster, "reconcile", hasty)


class DeletesFirst:
    """The cluster, but a status waits until pods were deleted."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._status: tuple[Any, Status] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    async def write_status(self, job: Any, status: Status) -> None:
        self._status = job, status

    async def delete(self, job: Any, pods: Any) -> None:
        await self._cluster.delete(job, pods)
        if self._status is not None:
            await self._cluster.write_status(*self._status)


async def faults(seed: int) -> None:
    """A schedule in which requests are refused and watches break off all the time."""
    await schedule(seed, refused=0.3, cut=0.2)


def crashes(scenario: Scenario) -> Callable[[int], Coroutine[Any, Any, None]]:
    """The operator dies after one of its writes; the end must be the same."""

    async def crash(point: int) -> None:
        undisturbed, _ = await played(scenario, 10_000)
        world, _ = await played(scenario, point)
        assert remains(world) == remains(undisturbed)

    return crash


PLANTS: list[tuple[Plant, Callable[[int], Coroutine[Any, Any, None]]]] = [
    (a_relist_forgets_deletions, faults),
    (a_failed_pass_is_not_tried_again, faults),
    (a_change_during_a_pass_is_lost, faults),
    (a_delete_that_was_refused_counts_as_done, refused_suspension),
    (the_config_map_comes_before_the_pods, crashes(runs)),
    (pods_come_before_the_attempt_is_in_the_status, faults),
    (the_same_attempt_begins_again, faults),
    (a_gang_starts_beside_the_old_one, faults),
    (a_status_that_was_refused_counts_as_written, faults),
    (a_pod_is_deleted_before_its_end_is_counted, crashes(rollout_fails)),
]


@pytest.mark.parametrize(("plant", "trial"), PLANTS, ids=lambda one: one.__name__)
def test_a_planted_bug_comes_to_light_and_without_it_the_same_trial_goes_well(
    plant: Plant, trial: Callable[[int], Coroutine[Any, Any, None]]
) -> None:
    """Without the control a trial that always fails would catch every bug."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        found = next((number for number in range(1, TRIALS) if shows(trial(number))), None)
    assert found is not None, f"no trial before {TRIALS} shows it"
    virtual_time.run(trial(found))


def shows(trial: Coroutine[Any, Any, None]) -> bool:
    try:
        virtual_time.run(trial)
    except AssertionError:
        return True
    return False
