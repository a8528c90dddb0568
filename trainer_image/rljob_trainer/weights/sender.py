"""What a receiver of weights knows of the sender: no packet tells that it was cut off, or has given up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from torch._C._distributed_c10d import Store

GIVEN_UP = "given up"
"""Key in the group's store that rank 0 sets when it sends no more."""
ASK_SECONDS = 2.0
CUT_OFF_SECONDS = 30.0
"""A sender whose store answers nothing for so long is not waited for."""


class Sender:
    """Rank 0, as its store tells. Asked in a thread: an answer that is lost on its way is waited for without end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heard = time.monotonic()
        self._gone = False

    @property
    def gone(self) -> bool:
        """It gave up, ended, or cannot be reached."""
        return self._gone or time.monotonic() > self._heard + CUT_OFF_SECONDS

    @contextmanager
    def watched(self) -> Iterator[None]:
        over = Event()
        Thread(target=self._ask, args=(over,), daemon=True, name="sender").start()
        try:
            yield
        finally:
            over.set()

    def _ask(self, over: Event) -> None:
        while not self._gone and not over.wait(ASK_SECONDS):
            try:
                self._gone = self._store.check([GIVEN_UP])
            except RuntimeError:  # the store is gone, and rank 0 with it
                self._gone = True
            self._heard = time.monotonic()
