"""A drain reaches trainers in each phase of a step: the last finished step is saved, whatever was begun after it.

A rank that is stopped gets its SIGTERM only when it goes on, so that no phase is too short to be hit.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pids import age_order, all_pids, environment, is_forked, pending
from rljob_api.base import GROUP
from rljob_api.progress import TrainPhase
from waiting import until

from .job import Job

HOLD = Path(__file__).with_name("hold.py")
RANKS = 2
PHASES = [
    TrainPhase.GENERATE,
    TrainPhase.SAVE,
    *(
        pytest.param(phase, marks=pytest.mark.slow)
        for phase in (TrainPhase.REWARD, TrainPhase.TRAIN, TrainPhase.SYNC, TrainPhase.EVALUATE)
    ),
]
"""Those in which something can be lost. The others are in `test_other_jobs.py`."""


@pytest.mark.parametrize("phase", PHASES)
def test_a_drain_loses_no_finished_step(job: Job, phase: TrainPhase) -> None:
    job.wait_for(job.is_whole, "it trains beside both servers")  # one may still come after another test
    before, servers = job.attempt(), job.containers("rollout")
    with drained_while(job, phase) as step:
        job.wait_for(lambda: job.is_back(after=before), "the gang is back")
        attempt = job.last_attempt()
        assert (attempt["number"], attempt["lostSteps"]) == (before + 1, 0)
        assert attempt["fromStep"] >= step
    job.goes_on(after=attempt["fromStep"])
    assert job.containers("rollout") == servers


@contextmanager
def drained_while(job: Job, phase: TrainPhase) -> Iterator[int]:
    """Their node takes no trainer until the block ends; gives the last step that was finished before they had to go."""
    leader = job.trainer()
    job.wait_for(lambda: len(ranks_of(leader)) == RANKS, "its ranks are there")
    node, ranks = job.nodes("trainer")[leader], ranks_of(leader)
    held = job.cluster.run(sys.executable, HOLD, job.progress_url(), phase, *map(str, ranks), node=node)
    with ThreadPoolExecutor() as pool:
        draining = pool.submit(job.cluster.kubectl, "drain", node, *trainers_of(job))
        try:
            until(lambda: all(pending(rank, signal.SIGTERM) for rank in ranks), "all are told to go")
        finally:
            for rank in ranks:
                os.kill(rank, signal.SIGCONT)
        draining.result()
    try:
        yield int(held)
    finally:
        job.cluster.kubectl("uncordon", node)


def trainers_of(job: Job) -> list[str]:
    """Servers stay, so that the next phase need not wait for them."""
    selector = f"--pod-selector={GROUP}/name={job.name},{GROUP}/role=trainer"
    return [selector, "--delete-emptydir-data", "--timeout=1200s"]


def ranks_of(pod: str) -> list[int]:
    """Process ids by rank."""
    found = [pid for pid in all_pids() if environment(pid).get("POD_NAME") == pod and is_forked(pid)]
    return sorted(found, key=age_order)[:RANKS]
