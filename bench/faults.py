"""Random fault schedules in virtual time: against the operator with an API server in memory, and against the pure core.

Not a speed: it counts the schedules after which a job was lost or anything else was that must never be, as
`tests/invariants.py` lists it. The tests play those before `FIRST`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from bench.result import Result, at_least, at_most
from decide.schedules import play
from shell import virtual_time
from shell.test_faults import schedule

FIRST = 1_000_000
OPERATOR_SCHEDULES, CORE_SCHEDULES = 5_000, 10_000
AT_A_TIME = 50
"""Schedules that a process takes in one go."""
SHOWN = 500
"""Schedules from one line of progress to the next."""


def measure(scratch: Path) -> Result:
    began = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=prepare) as pool:
        operator = played(pool, "the operator", operator_trouble, OPERATOR_SCHEDULES)
        core = played(pool, "the pure core", core_trouble, CORE_SCHEDULES)
    bad = [one for one in (*operator, *core) if one]
    return Result(
        "faults",
        [
            at_least("fault schedules against the operator", len(operator), OPERATOR_SCHEDULES),
            at_least("fault schedules against the pure core", len(core), CORE_SCHEDULES),
            at_most("schedules that lost a job or broke an invariant", len(bad), 0),
        ],
        facts={
            "seconds": round(time.perf_counter() - began, 1),
            "first seed": FIRST,
            "what went wrong": "; ".join(bad[:5]),
        },
        comment="Requests dropped, refused, answered late or twice, watches cut, pods failing, evicted and vanishing, "
        "nodes and quotas full, jobs suspended, scaled and deleted, operators dying. A schedule follows from its seed.",
    )


def played(pool: ProcessPoolExecutor, what: str, trouble: Callable[[int], str], schedules: int) -> list[str]:
    """What went wrong in each schedule."""
    told: list[str] = []
    for one in pool.map(trouble, range(FIRST, FIRST + schedules), chunksize=AT_A_TIME):
        told.append(one)
        if one or len(told) % SHOWN == 0:
            print(f"faults: {len(told)} of {schedules} schedules against {what} {one}", flush=True)
    return told


def prepare() -> None:
    """A process that plays schedules. What an operator logs as an error is heard by the schedule's judge."""
    logging.disable(logging.WARNING)
    virtual_time.go_by(pytest.MonkeyPatch())


def operator_trouble(seed: int) -> str:
    """What went wrong in a schedule; empty if nothing did."""
    try:
        virtual_time.run(schedule(seed))
    except AssertionError as failure:
        return f"seed {seed}: {failure}"
    return ""


def core_trouble(seed: int) -> str:
    """The same of the pure core."""
    try:
        play(seed)
    except AssertionError as failure:
        return f"seed {seed}: {failure}"
    return ""
