"""From SIGTERM to the exit of a pod, and how much of that is the save: of a model large enough for that to count."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.lives import Attempt, Job
from bench.model import Shape, make_qwen3
from bench.result import Facts
from bench.warm_pod import warm_up
from builders import a_job
from rljob_api.progress import LastWords, TrainPhase
from rljob_api.run import Paths, Run
from trainer.vllm_server import Servers

SHAPE = Shape(hidden=768, layers=8, vocabulary=16_384)
TIMES = 5


@dataclass
class Leaving:
    """Each SIGTERM's seconds."""

    exits: list[float] = field(default_factory=list)
    saves: list[float] = field(default_factory=list)
    facts: Facts = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        return [exit_ / save for exit_, save in zip(self.exits, self.saves, strict=True)]


def leave_while_generating(folder: Path) -> Leaving:
    """Attempts of one job, each told to go while it waits for answers after its first step."""
    folder.mkdir(parents=True)
    parameters = make_qwen3(folder / "model", SHAPE)
    run = a_run(folder)
    warm_up("dtensor")
    servers = Servers(run, folder)
    servers.start(0)
    found = Leaving(facts={"parameters of the model that is saved": parameters})
    try:
        for _ in range(TIMES):
            _leave(Job(run, folder), found)
    finally:
        servers.stop()
    return found


def _leave(job: Job, found: Leaving) -> None:
    attempt = Attempt(job, job.attempts() + 1)
    try:
        before = _wait_for_answers(attempt)
        began = time.monotonic()
        os.kill(attempt.pod.pid, signal.SIGTERM)
        assert attempt.pod.wait(120) == 128 + signal.SIGTERM, attempt.words()
        found.exits.append(time.monotonic() - began)
    finally:
        attempt.pod.kill()
    words = LastWords.model_validate_json((job.folder / "termination-log").read_text())
    assert words.progress is not None
    assert words.progress.spent is not None
    found.saves.append(words.progress.spent.saving - before)


def _wait_for_answers(attempt: Attempt) -> float:
    """Until it generates and has done a step; the seconds that went into saving so far."""
    while attempt.going():
        told = attempt.progress()
        if told and told.spent and told.phase is TrainPhase.GENERATE and told.step > attempt.saved_before:
            return told.spent.saving
        time.sleep(0.01)
    raise AssertionError(attempt.words())


def a_run(folder: Path) -> Run:
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
        checkpoint={"savePeriod": 1000},
    ).spec
    return Run(
        name="leaving",
        namespace="default",
        uid="leaving",
        attempt=1,
        token="1-token",
        spec=spec,
        paths=Paths(storage=str(folder), cache=str(folder)),
        master_addr="127.73.0.1",
        master_port=29400,
        progress_port=29401,
        rollout_hosts=["127.73.1.1"],
        rollout_port=8000,
    )
