"""Held-out accuracy: one completion of every validation prompt, scored like in training. Called by the
loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.rewards import Reward, score

Generate = Callable[[Sequence[Prompt]], list[Sample]]
"""One completion of each prompt, in the same order, drawn at the job's own temperature. The caller fixes the
seeds independently of the step, so that two evaluations differ by their weights alone."""


@dataclass(frozen=True)
class Evaluation:
    accuracy: float
    """Mean reward; with a 0-or-1 reward the share of prompts that were answered correctly."""
    samples: list[Sample]
    rewards: list[float]


def evaluate(
    prompts: Sequence[Prompt],
    generate: Generate,
    reward: Reward,
    tell: Callable[[str], None] = lambda _: None,
    poll: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Ask every prompt once. Raises what `generate` and `score` raise; `tell` and `poll` are for `score`."""
    samples = generate(prompts)
    rewards = score(samples, reward, tell, poll)
    return Evaluation(sum(rewards) / len(rewards), samples, rewards)
