"""Whatever goes wrong between operator and API server, and whenever the operator dies, jobs come to the same end."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from builders import PLENTY
from invariants import Invariant
from rljob_api.progress import Ending
from rljob_operator.cluster import listing

from . import virtual_time
from .memory_client import CHANCES, Faults
from .world import World

SCHEDULES = int(os.environ.get("RLJOB_FAULT_SCHEDULES", "1000"))

Trouble = Callable[[int], Coroutine[Any, Any, None]]

pytestmark = pytest.mark.usefixtures("virtual_time")


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists come in several, as those of large clusters do."""
    monkeypatch.setattr(listing, "PAGE", 2)


async def trouble(world: World, dice: random.Random) -> None:
    """A minute in which pods fail and vanish, room is short, users change their minds, and operators die; somebody
    deletes the jobs' Secrets."""
    for _ in range(dice.randint(2, 6)):
        await asyncio.sleep(dice.uniform(0.5, 12))
        await befall(world, dice, dice.choice(HAPPENINGS))


async def befall(world: World, dice: random.Random, what: str) -> None:
    """One of `HAPPENINGS`."""
    match what:
        case "fail":
            strike(world, dice, lambda name: world.nodes.end(name, Ending.FAILED, 1))
        case "evict":
            strike(world, dice, world.nodes.evict)
        case "vanish":
            strike(world, dice, world.nodes.vanish)
        case "suspend":
            world.edit("a", suspend=True)
            await asyncio.sleep(dice.uniform(0, 10))
            world.edit("a", suspend=False)
        case "scale":
            world.edit("b", rollout={"replicas": dice.randint(1, 3)})
        case "delete":
            world.delete("c")
        case "tokens":
            world.delete_secrets()
        case "full nodes":
            world.nodes.room = dice.randint(0, 4)
            await asyncio.sleep(dice.choice([5, 5, 5, 700]))
            world.nodes.room = PLENTY
        case "quota":
            world.api.quota = dice.randint(0, 4)
            await asyncio.sleep(dice.choice([5, 60]))
            world.api.quota = PLENTY
        case "crash":
            await world.crash_operator()
            await asyncio.sleep(dice.uniform(0, 20))
            world.start_operator()
        case other:
            raise AssertionError(other)


HAPPENINGS = [
    *("fail", "evict", "vanish", "suspend", "delete", "crash", "scale", "full nodes", "quota"),
    "tokens",
]


def strike(world: World, dice: random.Random, blow: Callable[[str], None]) -> None:
    if running := world.running():
        blow(dice.choice(running))


async def schedule(seed: int, **forced: float) -> None:
    """Raises `BrokenError`. `forced` chances are not left to chance."""
    dice = random.Random(seed)
    random.seed(seed)  # the operator's own pauses are random too
    chances = {key: dice.choice([0.0, 0.02, 0.1, 0.3]) for key in CHANCES}
    world = World(Faults(dice=dice, **chances | forced), dice.uniform(5, 40), dice.choice([0, 3, 10]))
    async with world.alive():
        world.start_operator()
        world.submit("a", trainer={"numNodes": 2})
        world.submit("b", rollout={"replicas": 2})
        world.submit("c")
        await trouble(world, dice)
        world.faults.end()
        await world.comes(lambda: set(world.phases().values()) == {"Complete"}, seconds=1200)
        await world.comes(lambda: not world.running(), Invariant.NOTHING_IS_LEFT)
        await asyncio.sleep(60)  # of no real time
        await world.is_quiet()


async def refused_suspension(seed: int) -> None:
    """A job is suspended while the API server refuses every other request."""
    world = World(Faults(dice=random.Random(seed)), training_seconds=3600)
    async with world.alive():
        world.start_operator()
        world.submit("a", trainer={"numNodes": 2}, rollout={"replicas": 3})
        await world.comes(lambda: len(world.running()) == 5)
        world.faults.refused = 0.5
        world.edit("a", suspend=True)
        await asyncio.sleep(30)
        world.faults.end()
        await world.comes(lambda: not world.running(), Invariant.NOTHING_IS_LEFT, 120)


async def unheard_eviction(seed: int) -> None:
    """A trainer is evicted while the watches break off at almost every event."""
    world = World(Faults(dice=random.Random(seed)), leaving_seconds=2)
    async with world.alive():
        world.start_operator()
        world.submit("a", trainer={"numNodes": 2})
        await world.comes(lambda: len(world.running()) == 3)
        world.faults.cut = 0.8
        world.nodes.evict("a-trainer-1-1")
        await asyncio.sleep(30)
        world.faults.end()
        await world.comes(lambda: set(world.phases().values()) == {"Complete"})


async def refused_beginning(seed: int) -> None:
    """A job is submitted while the API server refuses every other request."""
    world = World(Faults(dice=random.Random(seed), refused=0.5))
    async with world.alive():
        world.start_operator()
        world.submit("a", trainer={"numNodes": 2})
        await asyncio.sleep(60)
        world.faults.end()
        await world.comes(lambda: set(world.phases().values()) == {"Complete"})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "trouble", [refused_beginning, unheard_eviction, refused_suspension], ids=lambda one: one.__name__
)
def test_what_was_refused_or_not_heard_of_is_made_up_for(trouble: Trouble, seed: int) -> None:
    virtual_time.run(trouble(seed))


FOUND = [1_002_578, 1_002_820]
"""By the bench: a refusal that was news in each pass, so that passes never paused; and an operator that lost its lease
in the moment of a list, and never led again."""


@pytest.mark.parametrize("seed", [*range(SCHEDULES), *FOUND])
def test_a_random_schedule_of_faults_loses_no_job(seed: int) -> None:
    virtual_time.run(schedule(seed))
