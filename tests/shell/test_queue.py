"""Which job gets a pass, and when."""

from __future__ import annotations

import asyncio

import pytest

from rljob_operator.queue import LONGEST_PAUSE_SECONDS, Key, Queue

from . import virtual_time
from .virtual_time import CLOCK

pytestmark = pytest.mark.usefixtures("virtual_time")
A, B = ("here", "a"), ("here", "b")


async def comes(queue: Queue, seconds: float = 1000.0) -> Key | None:
    """The next job within so much time, else None."""
    try:
        async with asyncio.timeout(seconds):
            return await queue.get()
    except TimeoutError:
        return None


def test_many_changes_are_one_pass() -> None:
    async def play() -> list[Key | None]:
        queue = Queue()
        for key in (A, A, B, A):
            queue.add(key)
        return [await comes(queue), await comes(queue), await comes(queue)]

    assert virtual_time.run(play()) == [A, B, None]


def test_a_job_has_one_pass_at_a_time_and_a_change_in_between_leads_to_another() -> None:
    async def play() -> tuple[Key | None, ...]:
        queue = Queue()
        queue.add(A)
        first = await comes(queue)
        queue.add(A)
        meanwhile = await comes(queue)
        queue.done(A)
        return first, meanwhile, await comes(queue)

    assert virtual_time.run(play()) == (A, None, A)


@pytest.mark.parametrize(("first", "order"), [(True, [A, B]), (False, [B, A])])
def test_what_a_pass_has_begun_is_finished_before_another_job_is_looked_at(
    first: bool, order: list[Key]
) -> None:
    async def play() -> list[Key | None]:
        queue = Queue()
        queue.add(A)
        queue.add(B)
        await comes(queue)
        queue.add(A)  # its own write is heard of
        queue.add(A, first=first)
        queue.done(A)
        return [await comes(queue), await comes(queue)]

    assert virtual_time.run(play()) == order


def test_of_two_times_the_earlier_counts() -> None:
    async def play() -> float:
        queue = Queue()
        for seconds in (50, 10, 90):
            queue.add_at(A, CLOCK.time() + seconds)
        await comes(queue)
        return CLOCK.monotonic()

    assert virtual_time.run(play()) == pytest.approx(10)


async def pause_after_a_failure(queue: Queue) -> float:
    """Of a job that is at work; it is at work again afterwards."""
    began = CLOCK.monotonic()
    queue.failed(A)
    await comes(queue)
    return CLOCK.monotonic() - began


def test_pauses_after_failures_double_up_to_a_limit_and_begin_anew_after_a_success() -> None:
    async def play() -> list[float]:
        queue = Queue()
        queue.add(A)
        await comes(queue)
        pauses = [await pause_after_a_failure(queue) for _ in range(14)]
        queue.done(A)
        queue.add(A)
        await comes(queue)
        return [*pauses, await pause_after_a_failure(queue)]

    *pauses, last = virtual_time.run(play())
    assert pauses == sorted(pauses)
    assert pauses[1] == pytest.approx(2 * pauses[0])
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_SECONDS)
    assert last == pytest.approx(pauses[0])


def test_the_api_server_may_ask_for_a_longer_pause() -> None:
    async def play() -> float:
        queue = Queue()
        queue.add(A)
        await comes(queue)
        queue.failed(A, at_least=30)
        await comes(queue)
        return CLOCK.monotonic()

    assert virtual_time.run(play()) == pytest.approx(30)


def test_a_job_that_is_gone_has_no_pass_left() -> None:
    async def play() -> Key | None:
        queue = Queue()
        queue.add_at(A, CLOCK.time() + 5)
        queue.forget(A)
        return await comes(queue)

    assert virtual_time.run(play()) is None
