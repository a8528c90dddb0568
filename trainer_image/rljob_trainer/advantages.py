"""What a reward means beside its siblings: rewards → advantages. Pure; called by the loop after scoring.

Defined as in NeMo RL (`nemo_rl/algorithms/utils.py`, `calculate_baseline_and_std_per_prompt`, and
`advantage_estimator.py`, `GRPOAdvantageEstimator`):

* the baseline is the mean of the rewards that one is compared with: the *other* completions of its prompt
  (`leaveOneOut`, RLOO, arXiv 2402.14740) or all of them (`groupMean`, DeepSeekMath, arXiv 2402.03300);
* the standard deviation is that of the same rewards, with Bessel's correction, and `EPSILON` is added to it;
* where they do not vary, nothing is divided: a lone success among failures keeps its plain difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rljob_api.algorithm import Baseline, Grpo

EPSILON = 1e-6
"""Added to the standard deviation, as NeMo RL does."""


def advantages(rewards: Sequence[float], grpo: Grpo) -> list[float]:
    """One advantage per reward. `rewards` stand prompt by prompt, `generationsPerPrompt` of each.

    A group of equal rewards gives exactly 0: it teaches nothing.
    """
    rewards_PG = torch.tensor(rewards, dtype=torch.float64).view(-1, grpo.generations_per_prompt)
    return [value for rewards_G in rewards_PG for value in _group(rewards_G, grpo).tolist()]


def _group(rewards_G: Tensor, grpo: Grpo) -> Tensor:
    compared_GN = _compared(rewards_G, grpo.baseline)
    varies_G = compared_GN.amax(1) > compared_GN.amin(1)
    # The mean of equal numbers is one of them; computed, it could be off by a rounding error.
    baseline_G = torch.where(varies_G, compared_GN.mean(1), compared_GN[:, 0])
    difference_G = rewards_G - baseline_G
    if not grpo.normalize_advantages or compared_GN.shape[1] == 1:
        return difference_G
    return torch.where(varies_G, difference_G / (compared_GN.std(1) + EPSILON), difference_G)


def _compared(rewards_G: Tensor, baseline: Baseline) -> Tensor:
    """The rewards that each reward is compared with, a row for each."""
    count = len(rewards_G)
    all_GG = rewards_G.expand(count, count)
    match baseline:
        case Baseline.GROUP_MEAN:
            return all_GG
        case Baseline.LEAVE_ONE_OUT:
            others_GG = ~torch.eye(count, dtype=torch.bool)
            return all_GG[others_GG].view(count, count - 1)
