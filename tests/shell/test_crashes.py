"""The operator dies after each of its writes, in every scenario; its successor brings the cluster to the same end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kube.api import Manifest
from rljob_api.progress import Ending
from rljob_operator.names import LABEL_NAME

from . import virtual_time
from .world import World, until

pytestmark = pytest.mark.usefixtures("virtual_time")

Scenario = Callable[[World], Awaitable[None]]
MANY = 10_000


async def runs(world: World) -> None:
    await comes(lambda: world.phases() == {"demo": "Complete"}, world)


async def trainer_fails(world: World) -> None:
    await comes(lambda: trains(world), world)
    world.end("demo-trainer-1-1", Ending.FAILED, 1)
    await runs(world)


async def trainer_is_evicted(world: World) -> None:
    await comes(lambda: trains(world), world)
    world.evict("demo-trainer-0-1")
    await runs(world)


async def rollout_fails(world: World) -> None:
    await comes(lambda: trains(world), world)
    world.end("demo-rollout-0-0", Ending.FAILED, 1)
    await runs(world)


async def suspended_and_resumed(world: World) -> None:
    await comes(lambda: trains(world), world)
    world.edit("demo", suspend=True)
    await comes(lambda: world.phases() == {"demo": "Suspended"}, world)
    world.edit("demo", suspend=False)
    await runs(world)


async def deleted(world: World) -> None:
    await comes(lambda: trains(world), world)
    world.delete("demo")
    await comes(lambda: not world.pods(), world)


SCENARIOS = [runs, trainer_fails, trainer_is_evicted, rollout_fails, suspended_and_resumed, deleted]


def trains(world: World) -> bool:
    return len(world.running()) == 3


async def comes(condition: Callable[[], bool], world: World) -> None:
    assert await until(condition), f"never: {world.phases()}, {world.running()}"


async def played(scenario: Scenario, crash_after: int) -> tuple[World, int]:
    """The world at the end, and how many writes it took; the operator dies after one of them."""
    world, writes = World(), 0
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

    async with world.alive():
        world.start_operator()
        world.client.after_write = count
        successor = asyncio.create_task(succeed())
        world.submit("demo", trainer={"numNodes": 2})
        await scenario(world)
        await comes(lambda: not world.running(), world)
        await asyncio.sleep(60)
        successor.cancel()
    assert not world.violations, f"crash after write {crash_after}: {world.violations}"
    return world, writes


def remains(world: World) -> dict[str, list[str]]:
    """What is there at the end, by kind."""
    kinds = ("pods", "configmaps", "secrets", "services", "persistentvolumeclaims")
    return {kind: sorted(map(name, filter(is_ours, world.api.all(kind)))) for kind in kinds} | {
        "status": [facts(job) for job in world.jobs().values()]
    }


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
    undisturbed, writes = virtual_time.run(played(scenario, MANY))
    assert writes > 5
    for point in range(1, writes + 1):
        world, _ = virtual_time.run(played(scenario, point))
        assert remains(world) == remains(undisturbed), f"crash after write {point} of {writes}"
