"""Wait for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE_SECONDS = 30.0


def until(condition: Callable[[], T], what: str | Callable[[], str]) -> T:
    """What `condition` gives once it gives something; fails the test after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        late = time.monotonic() > deadline
        assert not late, f"never happened: {what if isinstance(what, str) else what()}"
        time.sleep(0.02)
    return found
