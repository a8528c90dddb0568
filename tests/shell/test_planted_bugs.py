"""Bugs that we plant in our own code, one at a time: faults or crashes must bring each to light, by its name."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from core_plants import (
    Plant,
    a_gang_starts_beside_one_that_is_leaving,
    a_pod_gets_a_new_name_each_time,
    the_same_attempt_begins_again,
)
from invariants import BrokenError, Invariant
from rljob_api.status import Status
from rljob_operator import queue, run_cluster
from rljob_operator.cluster import kubernetes, objects, standing, writer
from rljob_operator.cluster.client import ApiError
from rljob_operator.reconcile import reconcile
from rljob_operator.render import storage
from rljob_operator.render.owner import child

from . import virtual_time
from .test_crashes import (
    NEVER,
    Scenario,
    completes,
    ends_alike,
    played,
    rollout_fails,
    token_is_deleted_before_a_server_fails,
)
from .test_faults import Trouble, refused_beginning, refused_suspension, schedule, unheard_eviction

pytestmark = pytest.mark.usefixtures("virtual_time")

TRIALS = 40


def a_relist_forgets_deletions(patch: pytest.MonkeyPatch) -> None:
    def sweep(self: Any, scope: str, present: set[str], version: int) -> None:
        self._reached[scope] = version

    patch.setattr(objects.Objects, "sweep", sweep)


def a_failed_pass_is_not_tried_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.Queue, "failed", lambda self, key, at_least=0.0: self.done(key))


def a_change_during_a_pass_is_lost(patch: pytest.MonkeyPatch) -> None:
    original = queue.Queue.add

    def add(self: Any, key: Any, **more: Any) -> None:
        if key not in self._at_work:
            original(self, key, **more)

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


def a_claim_belongs_to_the_job_like_everything_else(patch: pytest.MonkeyPatch) -> None:
    """The garbage collector takes it when the job is deleted."""
    patch.setattr(storage, "retained", child)


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


def a_lost_token_is_made_anew_beside_pods_that_have_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing.Standing, "is_held", lambda self, manifest: False)


async def faults(seed: int) -> None:
    """A schedule in which requests are refused and watches break off all the time."""
    await schedule(seed, refused=0.3, cut=0.2)


def crashes(scenario: Scenario) -> Trouble:
    """The operator dies after one of its writes; the end must be the same."""

    async def crash(point: int) -> None:
        undisturbed, _ = await played(scenario, NEVER)
        await ends_alike(scenario, undisturbed, point)

    return crash


PLANTS: list[tuple[Plant, Trouble, Invariant]] = [
    (a_relist_forgets_deletions, unheard_eviction, Invariant.NO_JOB_IS_LOST),
    (a_failed_pass_is_not_tried_again, faults, Invariant.NO_JOB_IS_LOST),
    (a_change_during_a_pass_is_lost, faults, Invariant.NO_JOB_IS_LOST),
    (a_delete_that_was_refused_counts_as_done, refused_suspension, Invariant.NOTHING_IS_LEFT),
    (the_config_map_comes_before_the_pods, crashes(completes), Invariant.SAME_END),
    (pods_come_before_the_attempt_is_in_the_status, faults, Invariant.ATTEMPTS_ARE_WRITTEN_FIRST),
    (the_same_attempt_begins_again, unheard_eviction, Invariant.PASSES_END),
    (a_gang_starts_beside_one_that_is_leaving, unheard_eviction, Invariant.ONE_ATTEMPT_TRAINS),
    (a_pod_gets_a_new_name_each_time, faults, Invariant.ONE_LIVE_POD),
    (a_claim_belongs_to_the_job_like_everything_else, faults, Invariant.CHECKPOINTS_STAY),
    (a_status_that_was_refused_counts_as_written, refused_beginning, Invariant.ATTEMPTS_ARE_WRITTEN_FIRST),
    (
        a_lost_token_is_made_anew_beside_pods_that_have_it,
        crashes(token_is_deleted_before_a_server_fails),
        Invariant.ONE_TOKEN,
    ),
    (a_pod_is_deleted_before_its_end_is_counted, crashes(rollout_fails), Invariant.SAME_END),
]


@pytest.mark.parametrize(
    ("plant", "trial", "invariant"), PLANTS, ids=lambda one: getattr(one, "__name__", "")
)
def test_a_planted_bug_breaks_its_invariant_and_without_it_the_same_trial_goes_well(
    plant: Plant, trial: Trouble, invariant: Invariant
) -> None:
    """Without the control a trial that always fails would catch every bug; and a plant that raises is none."""
    broken: set[Invariant] = set()
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        for number in range(1, TRIALS):
            broken |= what_breaks(trial(number))
            if invariant in broken:
                break
    assert invariant in broken, f"before trial {TRIALS} only {broken}"
    assert Invariant.KNOWN_ERRORS not in broken
    assert what_breaks(trial(number)) == set()


def what_breaks(trial: Coroutine[Any, Any, None]) -> set[Invariant]:
    try:
        virtual_time.run(trial)
    except BrokenError as broken:
        return broken.invariants
    return set()
