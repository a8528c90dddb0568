"""Many requests, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
LANES = 32
"""Requests at a time for one job."""


async def in_lanes(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """`work` for each item. After the first failure no more are begun; those under way come to their end.

    Raises what the first item raised of those that failed: if all fail alike, always the same.
    """
    every = list(items)
    waiting = iter(enumerate(every))
    failures: dict[int, Exception] = {}
    await asyncio.gather(*(_lane(work, waiting, failures) for _ in range(min(LANES, len(every)))))
    if failures:
        raise failures[min(failures)]


async def _lane(
    work: Callable[[T], Awaitable[None]], waiting: Iterator[tuple[int, T]], failures: dict[int, Exception]
) -> None:
    for number, item in waiting:
        try:
            await work(item)
        except Exception as error:  # raised by `in_lanes`, after those under way
            failures[number] = error
        if failures:
            return
