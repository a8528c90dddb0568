"""Servers beyond those that the attempt began with: `rollout.replicas` was raised meanwhile. Asked by the fleet.

A server's name resolves once its pod exists; nobody needs to tell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from rljob_trainer.rollout.resolver import PATIENCE_SECONDS

PERIOD_SECONDS = 10.0
"""Between two look-ups of a name that nobody has yet."""


async def resolves(host: str) -> bool:
    """Whether the name has an address."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:  # TimeoutError is one
        return False
    return True


class Newcomers:
    """`hosts` are those that the run names, `pattern` is its `rollout_host`."""

    def __init__(
        self,
        hosts: list[str],
        pattern: str,
        resolves: Callable[[str], Awaitable[bool]] = resolves,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pattern = pattern
        self._resolves = resolves
        self._clock = clock
        self._next_look = clock() + PERIOD_SECONDS
        # On one machine hosts are addresses, and there are no others.
        self._possible = hosts[:1] == [self._host(0)]

    async def host(self, index: int) -> str | None:
        """The host of the server of that index, if there is one by now. Most calls cost nothing."""
        if not self._possible or self._clock() < self._next_look:
            return None
        if await self._resolves(self._host(index)):
            return self._host(index)
        self._next_look = self._clock() + PERIOD_SECONDS
        return None

    def _host(self, index: int) -> str:
        return self._pattern.replace("{index}", str(index))
