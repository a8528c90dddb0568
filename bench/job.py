"""A job of the benchmarks: a random Qwen3 on two ranks and two servers, and GRPO steps of a chosen size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rljob_api.run import Run
from trainer.vllm_server import Servers, a_run

RANKS = SERVERS = 2


@dataclass(frozen=True)
class Steps:
    """What a step asks for."""

    prompts: int
    generations: int
    tokens: int
    learning_rate: float

    @property
    def samples(self) -> int:
        return self.prompts * self.generations


def job(folder: Path, steps: Steps, **sections: Any) -> Run:
    """The model lies in `folder/model`; `sections` go to the spec."""
    vllm = {"kvCacheMib": 256, "maxModelLen": 256, "maxNumSeqs": max(16, steps.samples // SERVERS)}
    return a_run(
        folder,
        replicas=SERVERS,
        algorithm={
            "grpo": {
                "promptsPerStep": steps.prompts,
                "generationsPerPrompt": steps.generations,
                "learningRate": steps.learning_rate,
                "validationPeriod": 0,
            },
            "sampling": {"maxNewTokens": steps.tokens},
        },
        trainer={"numProcPerNode": RANKS},
        rollout={"replicas": SERVERS, "minReplicas": SERVERS, "vllm": vllm},
        checkpoint={"enabled": False},
        **sections,
    )


@contextmanager
def servers(run: Run, folder: Path) -> Iterator[None]:
    """The run's vLLM servers; they may still be starting."""
    processes = Servers(run, folder)
    try:
        for index in range(run.spec.rollout.replicas):
            processes.start(index)
        yield
    finally:
        processes.stop()
