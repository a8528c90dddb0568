"""What is done to a running job, and what must be left of it: kills of each of its processes, in a phase of choice."""

from __future__ import annotations

import os
import signal

from e2e.local_job import LocalJob
from e2e.volume import differences
from pids import alive, parent
from rljob_api.progress import Progress, TrainPhase
from waiting import until

LAUNCHER = -1
"""In place of a rank: the first process of their pod, from which they are forked."""


def kill_rank(job: LocalJob, how: signal.Signals, phase: TrainPhase, rank: int, before: int) -> int:
    """Once a step beyond `before` is done, end one rank in `phase`; the step it had reached."""
    job.wait_for(lambda: is_in(job, phase, before))
    ranks = job.ranks()
    done = step(job)
    os.kill(parent(ranks[0]) if rank == LAUNCHER else ranks[rank], how)
    job.wait_for(lambda: not any(map(alive, ranks)))  # all of them: one that is going still answers
    return done


def kill_server(job: LocalJob, how: signal.Signals, phase: TrainPhase, replica: int, before: int) -> int:
    """One of two that serve, in `phase` of a step beyond `before`: training goes on through the other, with the same
    ranks. The step that it had reached."""
    job.wait_for(lambda: both_serve(job) and is_in(job, phase, before))
    ranks, done = job.ranks(), step(job)
    os.kill(job.servers()[replica], how)
    job.wait_for(lambda: step(job) > done)
    assert job.ranks() == ranks, "a server that is lost restarts no rank"
    return step(job)


def both_serve(job: LocalJob) -> bool:
    status = job.status()
    return status is not None and status.rollout.ready == "2/2"


def is_in(job: LocalJob, phase: TrainPhase, before: int) -> bool:
    """Whether a step beyond `before` is done and the next one is in `phase`."""
    now = job.progress()
    return now is not None and now.step > before and now.phase is phase and has_trained(now)


def kill_command(job: LocalJob) -> None:
    """`kill -9` of `rljob run` itself: everything it started goes with it, and the same command goes on."""
    done = step(job)
    job.wait_for(lambda: step(job) > done)
    job.kill()
    until(lambda: job.pods() == {}, "no child outlives its parent")
    job.start()


def has_trained(progress: Progress) -> bool:
    """The phase belongs to the loop of this attempt, not to an older process that is going."""
    return progress.weight_version is not None


def step(job: LocalJob) -> int:
    progress = job.progress()
    return -1 if progress is None or progress.weight_version is None else progress.step


def assert_same(job: LocalJob, straight: LocalJob) -> None:
    assert differences(job.volume, straight.volume) == []
