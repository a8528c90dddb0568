"""An event loop whose time jumps to the next thing that is due: an hour of waiting takes no time."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from invariants import BrokenError, Invariant, Violation
from rljob_operator import leader, queue, run_cluster
from rljob_operator.cluster import event_posts, kubernetes

T = TypeVar("T")
BEGINNING = 1_700_000_000.0
ROUNDS_AT_ONCE = 1_000
"""Of the event loop, with work to do in each; the schedules need some thirty."""


class _Selector(selectors.DefaultSelector):
    """Never waits; tells how long it would have.

    Raises `BrokenError` when work goes round in circles, `AssertionError` when nothing will happen any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0
        self._at_once = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen any more"
        self._at_once = 0 if timeout > 0 else self._at_once + 1
        self.waited += max(0.0, timeout)
        if self._at_once > ROUNDS_AT_ONCE:
            self._at_once = 0
            raise BrokenError([Violation(Invariant.PASSES_END, f"{ROUNDS_AT_ONCE} rounds of the loop")])
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _Selector) -> None:
        self._waited = selector
        super().__init__(selector)

    def time(self) -> float:
        return self._waited.waited


class Clock:
    """Stands in for the module `time`."""

    def time(self) -> float:
        return BEGINNING + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def text(self) -> str:
        return datetime.fromtimestamp(self.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


CLOCK = Clock()


def run(work: Coroutine[Any, Any, T]) -> T:
    """What the coroutine gives: the same each time, for the operator's own pauses are random."""
    random.seed(0)
    with asyncio.Runner(loop_factory=lambda: _Loop(_Selector())) as runner:
        return runner.run(work)


def go_by(patch: pytest.MonkeyPatch) -> None:
    """Let the operator go by the loop's clock."""
    for module in (leader, queue, run_cluster, event_posts, kubernetes):
        patch.setattr(module, "time", CLOCK)


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator goes by the loop's clock."""
    go_by(monkeypatch)
