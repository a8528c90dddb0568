"""Random fault schedules against the operator and the API server in memory, in virtual time: more than tests play.

Not a speed: it counts the schedules after which a job was lost, a rank had two live pods, attempts were mixed, a
checkpoint's claim was deleted, or the operator wrote although nothing happened. The tests play those before `FIRST`.
"""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from bench.result import Result, at_least, at_most
from shell import virtual_time
from shell.test_faults import schedule

FIRST = 1_000_000
SCHEDULES = 10_000
AT_A_TIME = 50
"""Schedules that a process takes in one go."""


def measure(scratch: Path) -> Result:
    began = time.perf_counter()
    context = get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=prepare) as pool:
        told = []
        for one in pool.map(trouble, range(FIRST, FIRST + SCHEDULES), chunksize=AT_A_TIME):
            told.append(one)
            if one or len(told) % 500 == 0:
                print(f"faults: {len(told)} of {SCHEDULES} schedules {one}", flush=True)
    took = time.perf_counter() - began
    bad = [one for one in told if one]
    return Result(
        "faults",
        [
            at_least("fault schedules played", len(told), SCHEDULES),
            at_most("schedules that lost a job or broke an invariant", len(bad), 0),
        ],
        facts={"seconds": round(took, 1), "first seed": FIRST, "what went wrong": "; ".join(bad[:5])},
        comment="Requests dropped, refused, answered late or twice, watches cut, pods failing, evicted and vanishing, "
        "jobs suspended, scaled and deleted, operators dying; each schedule follows from its seed.",
    )


def prepare() -> None:
    """A process that plays schedules."""
    logging.disable(logging.WARNING)
    virtual_time.go_by(pytest.MonkeyPatch())


def trouble(seed: int) -> str:
    """What went wrong in a schedule; empty if nothing did."""
    try:
        virtual_time.run(schedule(seed))
    except AssertionError as failure:
        return str(failure)
    return ""
