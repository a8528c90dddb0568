"""Taking turns: every candidate once, then all of them again. The arithmetic of a benchmark; pure but for the calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

ROUNDS = 5
FEWER_ROUNDS = 3
"""Where a round takes half a minute or more: all of `make bench` is to fit in an hour or so."""

Seconds = dict[str, list[float]]
"""Candidate → what it took in each round."""


def take_turns(
    candidates: Mapping[str, Callable[[], float]], rounds: int = ROUNDS, warm_up: int = 1
) -> Seconds:
    """Call each candidate once per round, in the order given; each tells its own seconds.

    The first `warm_up` rounds do not count.
    """
    seconds: Seconds = {name: [] for name in candidates}
    for number in range(warm_up + rounds):
        for name, measure in candidates.items():
            took = measure()
            if number >= warm_up:
                seconds[name].append(took)
    return seconds


def timed(act: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> float:
    """Seconds that it takes, by that clock."""
    started = clock()
    act()
    return clock() - started


def ratio(seconds: Seconds, ours: str, other: str) -> float:
    """Median of `ours` over median of `other`."""
    return median(seconds[ours]) / median(seconds[other])
