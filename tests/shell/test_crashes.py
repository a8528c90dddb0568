"""The operator dies after each of its writes, in every scenario; its successor brings the cluster to the same end.

Writes of its Lease and of Events are left out: nothing of a job is decided by them, so to die after one is to die after
the write before it. When they come depends on the clock and not on the scenario.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest

from builders import PLENTY
from invariants import Invariant
from kube.api import Manifest
from rljob_api.progress import Ending
from rljob_operator.cluster.resources import CHILD_KINDS
from rljob_operator.names import LABEL_NAME

from . import virtual_time
from .world import World

pytestmark = pytest.mark.usefixtures("virtual_time")

Scenario = Callable[[World], Awaitable[None]]
NEVER = 10_000
"""More writes than there are."""


async def completes(world: World) -> None:
    await world.comes(lambda: world.phases() == {"demo": "Complete"})


async def trains(world: World) -> None:
    await world.comes(lambda: len(world.running()) == 3)


async def trainer_fails(world: World) -> None:
    await trains(world)
    world.nodes.end("demo-trainer-1-1", Ending.FAILED, 1)
    await completes(world)


async def trainer_is_evicted(world: World) -> None:
    await trains(world)
    world.nodes.evict("demo-trainer-0-1")
    await completes(world)


async def trainer_is_deleted_by_force(world: World) -> None:
    """The other one, which is told to go then, is not through when its grace is over."""
    world.nodes.leavings = [(Ending.FAILED, 137)]
    await trains(world)
    world.nodes.vanish("demo-trainer-1-1")
    await completes(world)
    status = world.jobs()["demo"]["status"]
    assert (status["preemptions"], status.get("restartsCountTowardsMax", 0)) == (1, 0)


async def rollout_fails(world: World) -> None:
    await trains(world)
    world.nodes.end("demo-rollout-0-0", Ending.FAILED, 1)
    await completes(world)


async def rollout_is_deleted_by_force(world: World) -> None:
    await serves(world)
    world.nodes.vanish("demo-rollout-0-0")
    await completes(world)
    assert replaced(world) == 1


async def rollout_is_evicted(world: World) -> None:
    await serves(world)
    world.nodes.evict("demo-rollout-0-0")
    await completes(world)
    assert replaced(world) == 1


async def serves(world: World) -> None:
    """And the status knows it."""
    await trains(world)
    await world.comes(lambda: world.jobs()["demo"]["status"]["rollout"].get("present") == [0])


def replaced(world: World) -> int:
    return int(world.jobs()["demo"]["status"]["rollout"]["restarts"])


async def suspended(world: World, phase: str = "Suspended") -> None:
    """While it trained, and as far as `phase`."""
    await trains(world)
    world.edit("demo", suspend=True)
    await world.comes(lambda: world.phases() == {"demo": phase})


async def suspended_and_resumed(world: World) -> None:
    await suspended(world)
    world.edit("demo", suspend=False)
    await completes(world)
    assert replaced(world) == 0


async def resumed_before_it_is_suspended(world: World) -> None:
    """Its pods were told to go, and not preempted."""
    await suspended(world, "Suspending")
    world.edit("demo", suspend=False)
    await completes(world)
    status = world.jobs()["demo"]["status"]
    assert (status["restarts"], status["attempt"]["reason"]) == (0, "Resumed")


async def laid_out_anew(world: World) -> None:
    """While it is suspended, which is when a layout may change."""
    await suspended(world)
    world.edit("demo", suspend=False, trainer={"numNodes": 1}, rollout={"replicas": 2, "minReplicas": 1})
    await completes(world)


async def scaled(world: World) -> None:
    await trains(world)
    world.edit("demo", rollout={"replicas": 3})
    await world.comes(lambda: len(world.running()) == 5)
    world.edit("demo", rollout={"replicas": 1})
    await world.comes(lambda: len(world.running()) == 3, Invariant.NOTHING_IS_LEFT)
    await completes(world)
    assert replaced(world) == 0


async def given_back_for_want_of_nodes(world: World) -> None:
    """One of three pods holds a node in vain, until it is given back; then there is room."""
    world.nodes.room = 1
    await world.comes(lambda: given_back(world) == "Unschedulable" and not world.pods(), seconds=1200)
    world.nodes.room = PLENTY
    await completes(world)


async def given_back_to_a_quota(world: World) -> None:
    world.api.quota = 1
    await world.comes(lambda: given_back(world) == "QuotaExceeded" and not world.pods())
    world.api.quota = PLENTY
    await completes(world)


async def over_its_deadline(world: World) -> None:
    world.nodes.training_seconds = 3600
    await trains(world)
    world.edit("demo", activeDeadlineSeconds=60)
    await world.comes(lambda: world.phases() == {"demo": "Failed"})


async def over_its_deadline_on_a_silent_node(world: World) -> None:
    """No pod that is told to go ever tells that it went, until the node comes back."""
    world.nodes.training_seconds = world.nodes.leaving_seconds = 36_000
    await trains(world)
    world.edit("demo", activeDeadlineSeconds=60)
    await world.comes(lambda: has_failed(world))
    assert "Node n was silent" in str(world.jobs()["demo"]["status"]["message"])
    world.nodes.leaving_seconds = 0


async def token_is_deleted_before_a_server_fails(world: World) -> None:
    await trains(world)
    world.delete_secrets()
    world.nodes.end("demo-rollout-0-0", Ending.FAILED, 1)
    await completes(world)


async def token_is_deleted_before_a_trainer_fails(world: World) -> None:
    """The servers would stay."""
    await trains(world)
    world.delete_secrets()
    world.nodes.end("demo-trainer-1-1", Ending.FAILED, 1)
    await completes(world)


async def token_is_deleted_before_there_are_nodes(world: World) -> None:
    """No pod is to be made, but those that are there cannot start."""
    world.nodes.room = 0
    await world.comes(lambda: len(world.pods()) == 3)
    await world.comes(lambda: len(world.api.all("configmaps")) == 1)
    world.delete_secrets()
    world.nodes.room = PLENTY
    await completes(world)


async def over_for_long(world: World) -> None:
    world.edit("demo", ttlSecondsAfterFinished=30)
    await world.comes(lambda: not world.jobs() and not world.pods(), Invariant.NOTHING_IS_LEFT)


async def deleted(world: World) -> None:
    await trains(world)
    world.delete("demo")
    await world.comes(lambda: not world.pods(), Invariant.NOTHING_IS_LEFT)


SCENARIOS = [
    *(completes, trainer_fails, trainer_is_evicted, trainer_is_deleted_by_force, rollout_fails, scaled),
    *(rollout_is_deleted_by_force, rollout_is_evicted),
    *(suspended_and_resumed, resumed_before_it_is_suspended, laid_out_anew),
    *(given_back_for_want_of_nodes, given_back_to_a_quota, over_its_deadline, over_for_long, deleted),
    *(token_is_deleted_before_a_server_fails, token_is_deleted_before_a_trainer_fails),
    *(token_is_deleted_before_there_are_nodes, over_its_deadline_on_a_silent_node),
]


def has_failed(world: World) -> bool:
    told = world.jobs()["demo"]["status"]["conditions"]
    return any((one["type"], one["status"]) == ("Failed", "True") for one in told)


def given_back(world: World) -> str:
    """Why the attempt was; empty if it was not."""
    attempt = world.jobs()["demo"].get("status", {}).get("attempt", {})
    return str(attempt.get("givenBackReason", ""))


async def played(scenario: Scenario, crash_after: int) -> tuple[World, int]:
    """The world at the end, and how many writes it took; the operator dies after one of them."""
    world, writes = World(training_seconds=40, leaving_seconds=2), 0
    dead = asyncio.Event()

    def count(method: str, path: str) -> None:
        nonlocal writes
        if "/leases" in path or "/events" in path:
            return
        writes += 1
        if writes == crash_after:
            world.client.dead = True
            dead.set()

    async def succeed() -> None:
        await dead.wait()
        await world.crash_operator()
        world.start_operator()
        world.client.after_write = count

    await to_its_end(world, scenario, count, succeed)
    return world, writes


async def to_its_end(
    world: World,
    scenario: Scenario,
    after_write: Callable[[str, str], None],
    succeed: Callable[[], Coroutine[None, None, None]],
) -> None:
    """Play it; `succeed` replaces the operator when `after_write` has told it to."""
    async with world.alive():
        world.start_operator()
        world.client.after_write = after_write
        successor = asyncio.create_task(succeed())
        world.submit("demo", trainer={"numNodes": 2})
        await scenario(world)
        await world.comes(lambda: not world.running(), Invariant.NOTHING_IS_LEFT)
        await asyncio.sleep(60)
        successor.cancel()


async def ends_alike(scenario: Scenario, undisturbed: World, crash_after: int) -> None:
    """Raises `BrokenError`."""
    world, _ = await played(scenario, crash_after)
    ended, wanted = remains(world), remains(undisturbed)
    world.judge.demand(ended == wanted, Invariant.SAME_END, lambda: f"{ended} and not {wanted}")


def remains(world: World) -> dict[str, list[str]]:
    """What is there at the end, by kind."""
    return {
        kind: sorted(map(name, filter(is_ours, world.api.all(resource.plural))))
        for kind, resource in CHILD_KINDS.items()
    } | {"status": [facts(job) for job in world.jobs().values()]}


def is_ours(one: Manifest) -> bool:
    return LABEL_NAME in one["metadata"].get("labels", {})


def name(one: Manifest) -> str:
    return str(one["metadata"]["name"])


def facts(job: Manifest) -> str:
    status = job["status"]
    counted = ("phase", "restarts", "restartsCountTowardsMax", "preemptions")
    told = {key: status.get(key, 0) for key in counted} | {"rollouts": status["rollout"]["restarts"]}
    return f"attempt {status['attempt']['number']}, {told}, {len(status.get('failures', []))} failures"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_end_is_the_same_wherever_the_operator_dies(scenario: Scenario) -> None:
    undisturbed, writes = virtual_time.run(played(scenario, NEVER))
    assert writes > 5
    for point in range(1, writes + 1):
        virtual_time.run(ends_alike(scenario, undisturbed, point))
