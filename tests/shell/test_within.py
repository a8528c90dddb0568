"""Waiting for an event or a time: it ends with either, and with a cancellation even in the moment of the event."""

from __future__ import annotations

import asyncio

import pytest

from rljob_operator.within import within

from .virtual_time import run


def test_it_says_whether_the_event_came() -> None:
    async def play() -> tuple[bool, bool]:
        event = asyncio.Event()
        late = await within(event, 5.0)
        event.set()
        return late, await within(event, 5.0)

    assert run(play()) == (False, True)


def test_a_cancellation_in_the_moment_of_the_event_is_not_lost() -> None:
    async def play() -> None:
        event = asyncio.Event()
        waits = asyncio.create_task(within(event, 5.0))
        await asyncio.sleep(1.0)
        event.set()
        waits.cancel()
        await waits

    with pytest.raises(asyncio.CancelledError):
        run(play())
