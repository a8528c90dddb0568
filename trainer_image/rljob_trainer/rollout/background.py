"""An event loop in a thread: rank 0's synchronous code asks many servers at once and can still be interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.025
"""Who is told to go notices it so much later; a look costs some microseconds."""


class Background:
    """Runs coroutines for a thread that waits for them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True, name="rollouts")
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` and go on."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T], poll: Callable[[], None]) -> T:
        """As `wait` for what `submit` starts."""
        return self.wait(self.submit(work), poll)

    def wait(self, future: Future[T], poll: Callable[[], None]) -> T:
        """Wait for work, calling `poll()` all along. When that raises, the work is cancelled and has ended;
        what a thread does goes on, and nobody waits for it.
        """
        try:
            while not future.done():
                poll()
                wait([future], timeout=POLL_SECONDS)
        except BaseException:
            future.cancel()
            self.submit(_settle()).result()
            raise
        return future.result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _settle() -> None:
    """Give cancelled tasks the turns of the loop that they need to close their connections."""
    for _ in range(3):
        await asyncio.sleep(0)
