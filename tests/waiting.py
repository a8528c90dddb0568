"""Wait for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
WITHIN_S = 300.0
"""Far more than most things take, on a busy machine that stands still for a while."""
DEADLINE_SECONDS = 600.0
"""The same for what begins with processes that import torch: beside a cluster that starts its pods a gang has taken
200 s to come. Shorter than pytest's own patience, so that a hang is told in words."""


def until(
    condition: Callable[[], T],
    what: str | Callable[[], str],
    within_s: float = WITHIN_S,
    pause_s: float = 0.02,
) -> T:
    """What `condition` gives once it gives something; `what` says so in words.

    Raises `AssertionError` when it does not within `within_s` seconds. The last look begins when they are over: a
    machine that stood still for all of them costs no test.
    """
    deadline = time.monotonic() + within_s
    while True:
        late = time.monotonic() > deadline
        if found := condition():
            return found
        assert not late, f"not so within {within_s} s: {what if isinstance(what, str) else what()}"
        time.sleep(pause_s)
