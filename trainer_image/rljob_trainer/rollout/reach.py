"""Control calls that may take minutes, and servers that are cut off meanwhile: no packet tells of those."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from rljob_trainer.rollout.client import Client, ReplicaError

T = TypeVar("T")

CUT_OFF_SECONDS = 30.0
"""Who takes no connection for so long is not waited for. Longer than a busy machine takes to let one in."""
ASK_SECONDS = 5.0
"""Pause between two tries to connect: longer than an idle connection is kept, so that each try makes a new one."""


async def while_reachable(client: Client, phase: str, call: Coroutine[Any, Any, T]) -> T:
    """What the call gives. Raises `ReplicaError`: its own, or that the server takes no connections any more."""
    calling = asyncio.ensure_future(call)
    watching = asyncio.ensure_future(_cut_off(client))
    try:
        await asyncio.wait({calling, watching}, return_when=asyncio.FIRST_COMPLETED)
        if calling.done():
            return calling.result()
        watching.result()
        raise ReplicaError(client.index, phase, f"it took no connection for {CUT_OFF_SECONDS:g} s")
    finally:
        calling.cancel()
        watching.cancel()
        await asyncio.gather(calling, watching, return_exceptions=True)


async def _cut_off(client: Client) -> None:
    """Returns once no connection was possible for too long."""
    reached = time.monotonic()
    while time.monotonic() < reached + CUT_OFF_SECONDS:
        await asyncio.sleep(ASK_SECONDS)
        if await client.takes_connections():
            reached = time.monotonic()
