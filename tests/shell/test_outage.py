"""No operator for an hour: jobs go on, and when one returns it does what happened meanwhile asks for, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kube.api import Manifest
from rljob_api.progress import Ending

from . import virtual_time
from .world import World

pytestmark = pytest.mark.usefixtures("virtual_time")

HOUR = 3600.0


async def away(world: World, meanwhile: Callable[[World], None] = lambda _: None) -> list[str]:
    """What the operator wrote after its return, for long; half-way through its absence `meanwhile` happened."""
    written: list[str] = []
    world.start_operator()
    world.submit("demo", trainer={"numNodes": 2})
    await world.comes(lambda: len(world.running()) == 3)
    await asyncio.sleep(60)
    await world.crash_operator()
    await asyncio.sleep(HOUR / 2)
    meanwhile(world)
    await asyncio.sleep(HOUR / 2)
    world.start_operator()
    world.client.after_write = lambda method, path: written.append(f"{method} {path}")
    await asyncio.sleep(600)
    return [one for one in written if "/leases" not in one]


async def nothing_happened() -> None:
    world = World(training_seconds=3 * HOUR)
    async with world.alive():
        assert await away(world) == []
        assert len(world.running()) == 3


async def a_trainer_died() -> None:
    world = World(training_seconds=3 * HOUR)
    async with world.alive():
        written = await away(world, lambda world: world.nodes.end("demo-trainer-1-1", Ending.FAILED, 1))
        assert status(world)["restarts"] == 1
        assert status(world)["attempt"]["number"] == 2
        assert posted(written, "pods") == 2
        assert "demo-rollout-0-0" in world.running()
        assert len(world.running()) == 3


async def training_ended() -> None:
    world = World(training_seconds=HOUR / 2)
    async with world.alive():
        written = await away(world)
        assert world.phases() == {"demo": "Complete"}
        assert (status(world).get("restarts", 0), posted(written, "pods")) == (0, 0)


def status(world: World) -> Manifest:
    return dict(world.jobs()["demo"]["status"])


def posted(written: list[str], plural: str) -> int:
    return sum(one.startswith("POST ") and one.endswith(f"/{plural}") for one in written)


def test_an_operator_that_returns_to_jobs_that_went_on_writes_nothing() -> None:
    virtual_time.run(nothing_happened())


def test_a_trainer_that_died_meanwhile_costs_one_restart_and_the_server_stays() -> None:
    virtual_time.run(a_trainer_died())


def test_training_that_ended_meanwhile_completes_the_job() -> None:
    virtual_time.run(training_ended())
