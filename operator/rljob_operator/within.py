"""Waiting for an event, or for a time.

`asyncio.wait_for` is not for that: before Python 3.12 it swallows a cancellation that comes in the moment in which the
event does, and whoever cancelled waits for ever. An operator that had lost its lease so never led again.
"""

from __future__ import annotations

import asyncio


async def within(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether it was set before so many seconds had passed."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
