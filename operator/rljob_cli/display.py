"""What a running job looks like: a live panel in a terminal, a line per change elsewhere, JSON lines for programs.

All three are told the same status; text is made by the pure functions of `panel.py` and `words.py`.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.live import Live

from rljob_api.job import RLJob
from rljob_api.status import Status
from rljob_operator.reconcile import Pass

from .panel import panel
from .words import news, summary


class Display(Protocol):
    def open(self) -> None: ...
    def show(self, job: RLJob, done: Pass) -> None:
        """`job` is as it was before the pass."""
        ...

    def close(self) -> None: ...
    def say(self, sentence: str) -> None: ...


class JsonLines:
    """One RLJob status a line, whenever it changed; sentences go to standard error."""

    def __init__(self) -> None:
        self._last: Status | None = None

    def open(self) -> None:
        pass

    def show(self, job: RLJob, done: Pass) -> None:
        if done.status != self._last:
            self._last = done.status
            print(done.status.model_dump_json(by_alias=True), flush=True)

    def close(self) -> None:
        pass

    def say(self, sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)


class PlainLines:
    """One line whenever something worth reading changed, and sentences on what happened."""

    def __init__(self) -> None:
        self._last = ""

    def open(self) -> None:
        pass

    def show(self, job: RLJob, done: Pass) -> None:
        line = summary(job.metadata.name, done.status)
        if line != self._last:
            self._last = line
            self._print(line)
        for sentence in news(job, done):
            self._print(f"{job.metadata.name}  {sentence}")

    def _print(self, line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)

    def close(self) -> None:
        pass

    def say(self, sentence: str) -> None:
        print(sentence, flush=True)


class LiveDisplay:
    """A panel that is drawn over itself, below what happened so far."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False)

    def open(self) -> None:
        self._live.start()

    def show(self, job: RLJob, done: Pass) -> None:
        for sentence in news(job, done):
            self.say(f"{time.strftime('%H:%M:%S')}  {sentence}")
        self._live.update(
            panel(job.metadata.name, done.status, done.observed.progress, time.time()), refresh=True
        )

    def close(self) -> None:
        self._live.stop()

    def say(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, highlight=False)
