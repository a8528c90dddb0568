"""Who answers rank 0's prompts, and what gives it the new weights: the loop's side of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rljob_api.algorithm import Sampling
from rljob_api.manifest import Versions
from rljob_api.progress import TrainPhase
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.rollout.fleet import Poll
from rljob_trainer.rollout.kept import KeptStep
from rljob_trainer.weights.sync import Weights


class Rollouts(Protocol):
    """`Fleet` asks vLLM servers; `Recorded` knows what they answered before."""

    def beside(self, versions: Versions, poll: Poll) -> Versions:
        """`versions` of ranks with those of who will answer; waits for them."""
        ...

    def generate(
        self,
        prompts: list[Prompt],
        n: int,
        sampling: Sampling,
        *,
        seed_of: Callable[[Prompt], int],
        step: int,
        poll: Poll,
        phase: TrainPhase = TrainPhase.GENERATE,
        kept: KeptStep | None = None,
    ) -> list[Sample]:
        """`n` completions of each prompt with the weights of `step`, ordered by prompt, then by number."""
        ...


class Sync(Protocol):
    """`WeightSync` gives weights to a fleet."""

    def push(self, weights: Weights, step: int, poll: Poll) -> None:
        """Collective. When it returns, the prompts that follow are answered with the weights of `step`."""
        ...
