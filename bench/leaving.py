"""How long a trainer takes from SIGTERM to its exit, and its save alone, in turns. A part of `recovery`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from bench.lives import Attempt, Job, loopback_run
from bench.model import Shape, make_qwen3
from bench.result import Facts
from bench.rounds import FEWER_ROUNDS, Seconds, take_turns
from bench.warm_pod import warm_up
from builders import a_job
from rljob_api.progress import TrainPhase
from rljob_api.run import Run
from trainer.vllm_server import Servers

SHAPE = Shape(hidden=768, layers=8, vocabulary=16_384)
PATIENCE_SECONDS = 300.0


def leave_while_generating(folder: Path) -> tuple[Seconds, Facts]:
    """Attempts of one job, each told to go while it waits for answers after its first step; and of one that saves."""
    for name in ("leaves", "saves"):
        (folder / name).mkdir(parents=True)
    parameters = make_qwen3(folder / "model", SHAPE)
    leaves, saves = Job(a_run(folder, 1000), folder / "leaves"), Job(a_run(folder, 1), folder / "saves")
    warm_up("dtensor")
    servers = Servers(leaves.run, folder)
    servers.start(0)
    try:
        turns = {"SIGTERM → exit": lambda: _leave(leaves), "the save alone": lambda: _save(saves)}
        seconds = take_turns(turns, FEWER_ROUNDS)
    finally:
        servers.stop()
    return seconds, {"parameters of the model that is saved": parameters}


def _leave(job: Job) -> float:
    attempt = Attempt(job, job.attempts() + 1)
    try:
        _wait_for_answers(attempt, steps=1)
        began = time.monotonic()
        os.kill(attempt.pod.pid, signal.SIGTERM)
        assert attempt.pod.wait(120) == 128 + signal.SIGTERM, attempt.words()
        return time.monotonic() - began
    finally:
        attempt.pod.kill()


def _save(job: Job) -> float:
    """Of the first step of an attempt that nobody disturbs, as it counts it itself."""
    attempt = Attempt(job, job.attempts() + 1)
    try:
        before = _wait_for_answers(attempt, steps=0)
        after = _wait_for_answers(attempt, steps=1)
    finally:
        attempt.pod.kill()
    assert job.saved() > attempt.saved_before, attempt.words()
    return after - before


def _wait_for_answers(attempt: Attempt, steps: int) -> float:
    """Until it generates and has done so many steps; the seconds that went into saving so far."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while attempt.going():
        told = attempt.progress()
        if (
            told
            and told.spent
            and told.phase is TrainPhase.GENERATE
            and told.step >= attempt.saved_before + steps
        ):
            return told.spent.saving
        assert time.monotonic() < deadline, attempt.words()
        time.sleep(0.01)
    raise AssertionError(attempt.words())


def a_run(folder: Path, save_period: int) -> Run:
    spec = a_job(
        model={"source": str(folder / "model")},
        algorithm={
            "grpo": {
                "maxSteps": 1000,
                "promptsPerStep": 4,
                "generationsPerPrompt": 4,
                "validationPeriod": 0,
                "learningRate": 1e-6,
            },
            "sampling": {"maxNewTokens": 64},
        },
        trainer={"numProcPerNode": 2},
        rollout={"replicas": 1, "vllm": {"kvCacheMib": 256, "maxModelLen": 256}},
        checkpoint={"savePeriod": save_period, "asyncSave": False},
    ).spec
    return loopback_run("leaving", 73, spec, folder / "cache")
