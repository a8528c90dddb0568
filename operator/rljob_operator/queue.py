"""Which jobs need a pass: each at most once, never two passes of one job at a time, later ones when they are due."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from .metrics import QUEUE_SECONDS

Key = tuple[str, str]
"""Namespace and name of a job."""

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 60.0


class Queue:
    """For workers in one event loop. Times are those of `time.time`."""

    def __init__(self) -> None:
        self._waiting: deque[Key] = deque()
        self._since: dict[Key, float] = {}
        """Jobs that wait, by when they began to; in `_waiting` unless a pass is at work on them."""
        self._at_work: set[Key] = set()
        self._first: set[Key] = set()
        """Of those at work, which line up before all others."""
        self._timers: dict[Key, tuple[float, asyncio.TimerHandle]] = {}
        self._failures: dict[Key, int] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Jobs that wait for a worker."""
        return len(self._waiting)

    def add(self, key: Key, *, first: bool = False) -> None:
        """A pass is needed as soon as can be. A change during a pass leads to one more.

        `first`: before those of other jobs. For a pass that finishes what the one at work has begun: behind a thousand
        others, as after a start, it would come seconds later.
        """
        if first:
            self._first.add(key)
        if key in self._since:
            return
        self._since[key] = time.monotonic()
        if key not in self._at_work:
            self._line_up(key)

    def add_at(self, key: Key, when: float) -> None:
        """A pass is needed then, or earlier if anything happens; of several times the earliest counts."""
        due, timer = self._timers.get(key, (None, None))
        if due is not None and timer is not None:
            if due <= when:
                return
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._timers[key] = (when, loop.call_later(max(0.0, when - time.time()), self._due, key))

    async def get(self) -> Key:
        """The next job; `done` or `failed` must follow."""
        await asyncio.sleep(0)  # passes that wait for nothing must leave time to watches and to the lease
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        key = self._waiting.popleft()
        QUEUE_SECONDS.observe(time.monotonic() - self._since.pop(key))
        self._at_work.add(key)
        return key

    def done(self, key: Key) -> None:
        """The pass went well."""
        self._failures.pop(key, None)
        self._leave(key)

    def failed(self, key: Key, at_least: float = 0.0) -> None:
        """Again after a pause, in seconds, that doubles with each failure in a row."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 16))
        self.add_at(key, time.time() + max(pause, at_least))
        self._leave(key)

    def forget(self, key: Key) -> None:
        """The job is gone: no timer is left."""
        _, timer = self._timers.pop(key, (None, None))
        if timer is not None:
            timer.cancel()

    def _leave(self, key: Key) -> None:
        self._at_work.discard(key)
        if key in self._since:
            self._line_up(key)

    def _line_up(self, key: Key) -> None:
        if key in self._first:
            self._first.remove(key)
            self._waiting.appendleft(key)
        else:
            self._waiting.append(key)
        self._arrived.set()

    def _due(self, key: Key) -> None:
        del self._timers[key]
        self.add(key)
