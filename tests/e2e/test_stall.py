"""A job that hangs for real, under `rljob run`: in its reward, in a collective, and in vLLM's engine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.kills import has_trained, step
from e2e.local_job import LocalJob, addition
from pids import children
from rljob_api.progress import TrainPhase
from rljob_api.reasons import Reason
from rljob_api.status import ConditionType, Phase, Status
from rljob_operator.status_reading import condition

pytestmark = pytest.mark.timeout(2400)

STEPS = 30
"""Most are left when the engine hangs, however late that is done."""
LIMITS = {"generate": 20, "reward": 15, "train": 20}
"""Seconds; far longer than a busy machine takes for any."""
SILENT_SECONDS = 3
"""Less than any of them."""
PAUSE = {"initial": 5, "max": 5}
"""Long enough to be seen: the status says only so long that the job stalled."""

REWARD = """
import pathlib, time
def score(prompt, completion, answer, item):
    if once := list(pathlib.Path({folder!r}).glob("hang")):
        once[0].unlink()
        time.sleep(3600)
    return float(completion.strip() == answer)
"""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[LocalJob]:
    manifest = addition(
        STEPS,
        reward={"python": {"module": "hanging_reward", "function": "score"}},
        stall={"phaseTimeoutSeconds": LIMITS},
        checkpoint={"savePeriod": 1},
        failurePolicy={"maxRestarts": 2, "backoffSeconds": PAUSE},
    )
    one = LocalJob(manifest, tmp_path)
    (tmp_path / "hanging_reward.py").write_text(REWARD.format(folder=str(tmp_path)))
    yield one.start()
    one.kill()


def test_each_hang_is_told_apart_and_costs_the_step_at_most(job: LocalJob, tmp_path: Path) -> None:
    hang_in_the_reward(job, tmp_path)
    hang_in_a_collective(job)
    hang_in_the_engine(job)
    assert job.finish() == 0
    status = told(job)
    assert (status.phase, status.restarts, status.restarts_count_towards_max) == (Phase.COMPLETE, 2, 2)
    assert sorted(job.volume.losses()) == list(range(1, STEPS + 1))
    assert status.goodput is not None
    assert float(status.goodput.shares.stalled) > 0
    assert float(status.goodput.percent) > 0


def hang_in_the_reward(job: LocalJob, tmp_path: Path) -> None:
    job.wait_for(lambda: step(job) >= 2)
    servers = job.servers()
    (tmp_path / "hang").touch()
    job.wait_for(lambda: progressing(job) == ("False", Reason.STALLED))
    job.wait_for(lambda: attempt(job) == 2)
    said = told(job).failures[-1].message
    assert "hung in Reward: the reward does not return. Rank 0 is late" in said
    assert "hanging_reward.py:6" in said
    assert "of 64, of prompt" in said
    assert job.servers() == servers, "the servers stay"


def hang_in_a_collective(job: LocalJob) -> None:
    """One rank stands still in the step, so that the other waits for it inside of gloo."""
    while True:
        job.wait_for(lambda: in_phase(job, TrainPhase.TRAIN))
        rank = job.ranks()[1]
        os.kill(rank, signal.SIGSTOP)
        job.wait_for(lambda: silent_phase(job) is not None)
        if silent_phase(job) is TrainPhase.TRAIN:
            break
        os.kill(rank, signal.SIGCONT)  # the step was over before it stood still
    job.wait_for(lambda: attempt(job) == 3)
    said = told(job).failures[-1].message
    assert "hung in Train: the process of rank 1 is stopped" in said
    assert told(job).failures[-1].rank == 1


def hang_in_the_engine(job: LocalJob) -> None:
    """The process that serves HTTP is well, and says so."""
    job.wait_for(lambda: in_phase(job, TrainPhase.GENERATE))
    processes = children(job.servers()[1])
    assert processes
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    job.wait_for(lambda: told(job).rollout.restarts == 1)
    assert attempt(job) == 3, "trainers keep their state"
    said = [failure.message for failure in told(job).failures if failure.role == "rollout"]
    assert said in [[f"it hangs: {how}"] for how in HOW_IT_IS_FOUND]


HOW_IT_IS_FOUND = (
    f"it has prompts in hand and has answered none for {LIMITS['generate']} s",
    "it takes connections, and has answered nothing for 30 s",
)
"""The second if it stops just before it is asked."""


def progressing(job: LocalJob) -> tuple[str, str] | None:
    found = condition(job.status(), ConditionType.PROGRESSING)
    return (found.status, found.reason) if found else None


def in_phase(job: LocalJob, phase: TrainPhase) -> bool:
    now = job.progress()
    return now is not None and now.phase is phase and has_trained(now)


def silent_phase(job: LocalJob) -> TrainPhase | None:
    """In which rank 0 has given no sign of life for a while; None as long as it goes on."""
    now = job.progress()
    return now.phase if now is not None and time.time() - now.heartbeat > SILENT_SECONDS else None


def told(job: LocalJob) -> Status:
    status = job.status()
    assert status is not None
    return status


def attempt(job: LocalJob) -> int:
    status = job.status()
    return status.attempt.number if status and status.attempt else 0
