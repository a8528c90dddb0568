"""Polls rank 0's `/progress`, and remembers the newest answer."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rljob_api.progress import Progress

from .. import names
from .probes import get
from .told import read_progress

PERIOD_SECONDS = 0.5
TIMEOUT_SECONDS = 5.0


class ProgressPoller(threading.Thread):
    def __init__(self, address: str, changed: Callable[[], None]) -> None:
        super().__init__(name="progress", daemon=True)
        self.newest: Progress | None = None
        self._address = address
        self._changed = changed
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            answer = get(self._address, names.PROGRESS_PORT, names.PROGRESS_URL_PATH, TIMEOUT_SECONDS)
            if answer is not None and (told := read_progress(answer)) is not None and told != self.newest:
                self.newest = told
                self._changed()

    def stop(self) -> None:
        self._ended.set()
