"""The operator is told to stop after each write of a status; what it wrote is told as if nobody had stopped it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from . import virtual_time
from .test_crashes import (
    NEVER,
    Scenario,
    over_its_deadline,
    rollout_fails,
    suspended_and_resumed,
    to_its_end,
    trainer_fails,
)
from .world import World

pytestmark = pytest.mark.usefixtures("virtual_time")

ANSWER_SECONDS = 1.0
"""From the moment in which a status is written until the operator hears of it."""


@pytest.fixture(autouse=True)
def slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator may be told to stop between the two."""
    original = World.start_operator

    def start(world: World) -> None:
        original(world)
        send = world.client.send

        async def slowly(method: str, path: str, *what: Any, **more: Any) -> dict[str, Any]:
            answer = await send(method, path, *what, **more)
            if is_status(method, path):
                await asyncio.sleep(ANSWER_SECONDS)
            return answer

        monkeypatch.setattr(world.client, "send", slowly)

    monkeypatch.setattr(World, "start_operator", start)


def is_status(method: str, path: str) -> bool:
    return method == "PUT" and path.endswith("/status")


async def told(scenario: Scenario, stop_after: int) -> tuple[set[str], int]:
    """Reasons of all Events at the end, and how many statuses were written."""
    world, writes, stop = World(training_seconds=40, leaving_seconds=2), 0, asyncio.Event()

    def count(method: str, path: str) -> None:
        nonlocal writes
        writes += is_status(method, path)
        if writes == stop_after:
            stop.set()

    async def succeed() -> None:
        await stop.wait()
        await world.stop_operator()
        world.start_operator()

    await to_its_end(world, scenario, count, succeed)
    return {event["reason"] for event in world.api.all("events")}, writes


@pytest.mark.parametrize(
    "scenario",
    [trainer_fails, rollout_fails, suspended_and_resumed, over_its_deadline],
    ids=lambda scenario: scenario.__name__,
)
def test_the_same_events_are_told_whenever_the_operator_is_told_to_stop(scenario: Scenario) -> None:
    undisturbed, writes = virtual_time.run(told(scenario, NEVER))
    assert {"AttemptStarted"} < undisturbed
    for point in range(1, writes + 1):
        reasons, _ = virtual_time.run(told(scenario, point))
        assert reasons >= undisturbed, f"stopped after write {point} of {writes}"
