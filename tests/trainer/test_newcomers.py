"""Servers that come while an attempt runs, because `rollout.replicas` was raised."""

from __future__ import annotations

import asyncio

import pytest

from rljob_trainer.rollout import newcomers as newcoming
from rljob_trainer.rollout.newcomers import PERIOD_SECONDS, Newcomers, resolves


class World:
    """A clock, and names that resolve."""

    def __init__(self, *hosts: str) -> None:
        self.now = 0.0
        self.hosts = set(hosts)
        self.asked: list[str] = []

    async def resolves(self, host: str) -> bool:
        self.asked.append(host)
        return host in self.hosts


def newcomers(world: World, hosts: list[str]) -> Newcomers:
    return Newcomers(hosts, "a-{index}.b", world.resolves, lambda: world.now)


def hosts(found: Newcomers, *indices: int) -> list[str | None]:
    return [asyncio.run(found.host(index)) for index in indices]


def test_one_that_came_is_found_and_then_the_next_is_looked_for_at_once() -> None:
    world = World("a-1.b", "a-2.b")
    found = newcomers(world, ["a-0.b"])
    assert hosts(found, 1) == [None]
    world.now = PERIOD_SECONDS
    assert hosts(found, 1, 2, 3) == ["a-1.b", "a-2.b", None]


def test_a_name_that_nobody_has_is_not_asked_for_all_the_time() -> None:
    world = World()
    found = newcomers(world, ["a-0.b"])
    world.now = PERIOD_SECONDS
    hosts(found, 1, 1, 1)
    assert world.asked == ["a-1.b"]


def test_on_one_machine_nobody_comes() -> None:
    world = World("a-1.b")
    found = newcomers(world, ["127.0.0.11"])
    world.now = PERIOD_SECONDS
    assert (hosts(found, 1), world.asked) == ([None], [])


@pytest.mark.parametrize(("host", "there"), [("localhost", True), ("no-such-name.invalid", False)])
def test_names_are_looked_up_for_real(host: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcoming, "PATIENCE_SECONDS", 60.0)
    assert asyncio.run(resolves(host)) is there
