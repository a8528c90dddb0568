"""Names of servers: what the name server said before counts for as long as it says nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from rljob_trainer.rollout import resolver
from rljob_trainer.rollout.resolver import LastKnown


class NameServer(AbstractResolver):
    """Gives an address at first, and then what the test says."""

    def __init__(self, then: Callable[[], list[ResolveResult]] | None) -> None:
        self._then = then
        self._asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self._asked += 1
        if self._asked == 1:
            return address("10.0.0.1")
        if self._then is None:
            await asyncio.sleep(3600)
        assert self._then is not None
        return self._then()

    async def close(self) -> None:
        """Nothing is open."""


def address(host: str) -> list[ResolveResult]:
    return [ResolveResult(hostname="a", host=host, port=1, family=socket.AF_INET, proto=0, flags=0)]


async def twice(then: Callable[[], list[ResolveResult]] | None) -> list[ResolveResult]:
    """What is given the second time."""
    known = LastKnown(NameServer(then))
    assert await known.resolve("a", 1) == address("10.0.0.1")
    return await known.resolve("a", 1)


def failing(code: int) -> Callable[[], list[ResolveResult]]:
    def fail() -> list[ResolveResult]:
        raise socket.gaierror(code, "so it is")

    return fail


def test_a_new_address_counts_at_once() -> None:
    assert asyncio.run(twice(lambda: address("10.0.0.2"))) == address("10.0.0.2")


def test_while_nobody_answers_the_address_from_before_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "PATIENCE_SECONDS", 0.1)
    assert asyncio.run(twice(None)) == address("10.0.0.1")
    assert asyncio.run(twice(failing(socket.EAI_AGAIN))) == address("10.0.0.1")


def test_a_name_that_is_gone_is_gone() -> None:
    """Negative control."""
    with pytest.raises(OSError, match=r"a has no address: .*so it is"):
        asyncio.run(twice(failing(socket.EAI_NONAME)))


def test_a_name_that_was_never_resolved_is_an_error_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "PATIENCE_SECONDS", 0.1)

    async def other() -> None:
        known = LastKnown(NameServer(None))
        await known.resolve("a", 1)
        await known.resolve("b", 1)

    with pytest.raises(OSError, match="b has no address: no name server answers"):
        asyncio.run(other())
