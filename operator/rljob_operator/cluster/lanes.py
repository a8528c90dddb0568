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

    Raises what the first failure raised.
    """
    every = list(items)
    waiting = iter(every)
    failures: list[BaseException] = []
    await asyncio.gather(*(_lane(work, waiting, failures) for _ in range(min(LANES, len(every)))))
    if failures:
        raise failures[0]


async def _lane(
    work: Callable[[T], Awaitable[None]], waiting: Iterator[T], failures: list[BaseException]
) -> None:
    for item in waiting:
        try:
            await work(item)
        except Exception as error:
            failures.append(error)
        if failures:
            return
