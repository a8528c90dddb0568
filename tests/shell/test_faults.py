"""Whatever goes wrong between operator and API server, and whenever the operator dies, jobs come to the same end."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable

import pytest

from rljob_api.progress import Ending

from . import virtual_time
from .memory_client import Faults
from .world import World, until

SCHEDULES = int(os.environ.get("RLJOB_FAULT_SCHEDULES", "1000"))

pytestmark = pytest.mark.usefixtures("virtual_time")


async def trouble(world: World, dice: random.Random) -> None:
    """A minute in which pods fail and vanish, users change their minds, and operators die."""
    for _ in range(dice.randint(2, 6)):
        await asyncio.sleep(dice.uniform(0.5, 12))
        match dice.choice(["fail", "evict", "vanish", "suspend", "delete", "crash", "scale"]):
            case "fail":
                strike(world, dice, lambda name: world.end(name, Ending.FAILED, 1))
            case "evict":
                strike(world, dice, world.evict)
            case "vanish":
                strike(world, dice, world.vanish)
            case "suspend":
                world.edit("a", suspend=True)
                await asyncio.sleep(dice.uniform(0, 10))
                world.edit("a", suspend=False)
            case "scale":
                world.edit("b", rollout={"replicas": dice.randint(1, 3)})
            case "delete":
                world.delete("c")
            case _:
                await world.crash_operator()
                await asyncio.sleep(dice.uniform(0, 20))
                world.start_operator()


def strike(world: World, dice: random.Random, blow: Callable[[str], None]) -> None:
    if running := world.running():
        blow(dice.choice(running))


async def schedule(seed: int, **forced: float) -> World:
    """`forced` chances are not left to chance."""
    dice = random.Random(seed)
    random.seed(seed)  # the operator's own pauses are random too
    chances = {
        key: dice.choice([0.0, 0.02, 0.1, 0.3]) for key in ("refused", "lost", "slow", "cut", "repeated")
    }
    world = World(Faults(dice=dice, **chances | forced), training_seconds=dice.uniform(5, 40))
    async with world.alive():
        world.start_operator()
        world.submit("a", trainer={"numNodes": 2})
        world.submit("b", rollout={"replicas": 2})
        world.submit("c")
        await trouble(world, dice)
        world.faults.refused = world.faults.lost = world.faults.slow = world.faults.cut = (
            world.faults.repeated
        ) = 0.0
        done = await until(lambda: set(world.phases().values()) == {"Complete"})
        assert done, f"seed {seed}: no end: {world.phases()}"
        assert await until(lambda: not world.running()), f"seed {seed}: still there: {world.running()}"
        await asyncio.sleep(60)  # of no real time
        before = world.writes()
        await asyncio.sleep(120)
        assert world.writes() == before, f"seed {seed}: writes although nothing happens"
    assert not world.violations, f"seed {seed}: {world.violations}"
    return world


async def refused_suspension(seed: int) -> None:
    """A job is suspended while the API server refuses every other request."""
    world = World(Faults(dice=random.Random(seed)), training_seconds=3600)
    async with world.alive():
        world.start_operator()
        world.submit("a", trainer={"numNodes": 2}, rollout={"replicas": 3})
        assert await until(lambda: len(world.running()) == 5)
        world.faults.refused = 0.5
        world.edit("a", suspend=True)
        await asyncio.sleep(30)
        world.faults.refused = 0.0
        assert await until(lambda: not world.running(), 120), f"still there: {world.running()}"


@pytest.mark.parametrize("seed", range(5))
def test_what_was_refused_during_a_suspension_is_asked_for_again(seed: int) -> None:
    virtual_time.run(refused_suspension(seed))


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_a_random_schedule_of_faults_loses_no_job(seed: int) -> None:
    virtual_time.run(schedule(seed))
