"""Builders of test inputs: each shows only what matters, the rest is a small job that is valid."""

from __future__ import annotations

from typing import Any

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.progress import Ending, LastWords, Progress, TrainPhase
from rljob_api.status import AttemptStatus, CheckpointFacts, Condition, ConditionType, Status
from rljob_operator import names
from rljob_operator.observed import Observed, Pod, PodPhase

JOB = "demo"
NOW = 1_700_000_000.0
PLENTY = 1_000
"""Room for pods."""


def manifest(**spec: Any) -> Manifest:
    """A valid RLJob as plain data; `spec` replaces whole sections."""
    least: Manifest = {
        "model": {"source": "builtin:addition"},
        "data": {"train": {"source": "builtin:addition"}},
        "reward": {"builtin": "exactMatch"},
        "algorithm": {"grpo": {"maxSteps": 10}},
    }
    return {
        "apiVersion": "rljob.io/v1alpha1",
        "kind": "RLJob",
        "metadata": {"name": JOB, "uid": "1111-2222"},
        "spec": least | spec,
    }


ONE_SERVER = {"replicas": 1, "vllm": {"maxModelLen": 64}}


def addition(name: str, max_steps: int, **spec: Any) -> Manifest:
    """The example job, smaller: really trains, eight prompts of eight completions each; `spec` replaces sections."""
    grpo = {
        "maxSteps": max_steps,
        "promptsPerStep": 8,
        "generationsPerPrompt": 8,
        "learningRate": 5e-4,
        "validationPeriod": 0,
    }
    job = manifest(
        algorithm={"grpo": grpo, "sampling": {"maxNewTokens": 4}},
        trainer={"numProcPerNode": 2},
        rollout=ONE_SERVER,
    )
    return job | {"metadata": {"name": name}, "spec": job["spec"] | spec}


def a_job(status: Status | None = None, **spec: Any) -> RLJob:
    return RLJob.parse(manifest(**spec)).model_copy(update={"status": status})


def a_status(attempt: int = 1, **facts: Any) -> Status:
    """The status of a job whose attempt of that number was begun."""
    return Status(attempt=an_attempt(attempt), **facts)


def an_attempt(number: int = 1, **facts: Any) -> AttemptStatus:
    name = names.run_config_map(JOB, number)
    own = {"generation": 1, "run_config_map_name": name, "token": f"{number}-token"}
    return AttemptStatus(number=number, **own | facts)


def true(kind: ConditionType) -> Condition:
    return Condition(type=kind, status="True", reason="Because", message="why")


def a_trainer(index: int = 0, attempt: int = 1, **facts: Any) -> Pod:
    name = names.trainer_pod(JOB, index, attempt)
    return Pod(**_running(name, facts, role=RoleName.TRAINER, index=index, attempt=attempt))


def a_rollout(index: int = 0, serial: int = 0, attempt: int = 1, **facts: Any) -> Pod:
    name = names.rollout_pod(JOB, index, serial)
    return Pod(**_running(name, facts, role=RoleName.ROLLOUT, index=index, attempt=attempt))


def _running(name: str, facts: dict[str, Any], **identity: Any) -> dict[str, Any]:
    running = {"phase": PodPhase.RUNNING, "ready": True, "started_at": NOW - 100}
    return {"name": name, "uid": f"uid-{name}", **running, **identity, **facts}


def failed(exit_code: int | None = 1, ago: float = 0.0, words: LastWords | None = None) -> dict[str, Any]:
    """Facts of a pod that ended badly, `ago` seconds before `NOW`."""
    return {
        "phase": PodPhase.FAILED,
        "ready": False,
        "exit_code": exit_code,
        "finished_at": NOW - ago,
        "last_words": words,
    }


def complete() -> dict[str, Any]:
    """Facts of a trainer that ran all steps."""
    return {
        "phase": PodPhase.SUCCEEDED,
        "ready": False,
        "exit_code": 0,
        "finished_at": NOW,
        "last_words": last_words(Ending.COMPLETE),
    }


def last_words(ending: Ending, **facts: Any) -> LastWords:
    return LastWords(ending=ending, role="trainer", **facts)


def a_checkpoint(step: int = 2, **facts: Any) -> CheckpointFacts:
    """What is told of a verified checkpoint."""
    least: dict[str, Any] = {"time": "2026-01-01T00:00:00Z", "path": "/s", "bytes": 1, "layout": "x"}
    whole = {"verified": True, "has_rng": True, "has_optimizer": True}
    return CheckpointFacts(step=step, **least | whole | facts)


def a_progress(step: int = 3, attempt: int = 1, **facts: Any) -> Progress:
    least: dict[str, Any] = {"total_steps": 10, "phase": TrainPhase.TRAIN, "heartbeat": NOW}
    return Progress(attempt=attempt, step=step, **least | facts)


def seen(*pods: Pod, progress: Progress | None = None, pinned: int = 1) -> Observed:
    """What was observed; the pods of attempts up to `pinned` were asked for."""
    config_maps = frozenset(names.run_config_map(JOB, number) for number in range(1, pinned + 1))
    return Observed(pods=pods, progress=progress, run_config_maps=config_maps)
