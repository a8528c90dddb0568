"""The GRPO loss and the measure of how far trainer and rollout disagree. Pure; called by the loop and by
backends.

Defined as in NeMo RL (`nemo_rl/algorithms/loss/loss_functions.py`, `ClippedPGLossFn`): clipped surrogate
(PPO, arXiv 1707.06347) with separate bounds, k3 divergence from a reference model, every token of the global
batch weighing the same, optionally truncated importance sampling.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rljob_api.algorithm import Grpo
from rljob_trainer.backend.protocol import LossFunction
from rljob_trainer.batch import Batch

KL_LOG_RATIO_LIMIT = 20.0
"""The log ratio inside k3 is clamped to this: exp(20) is still a number that can be squared in fp32 (NeMo
RL)."""
KL_LIMIT = 10.0
"""Largest k3 of one token (NeMo RL)."""


def grpo_loss(grpo: Grpo, global_tokens: float) -> LossFunction:
    """The loss of a step whose whole batch has `global_tokens` generated tokens.

    Metrics are sums over the micro-batch divided by `global_tokens`, so that their sum over all micro-batches
    is the mean over the batch: `policy_loss`, `ratio`, `clip_fraction` (tokens that clipping leaves without
    gradient),
    `entropy` (estimated as -logprob), with a KL penalty `kl`, with truncated importance sampling
    `importance_weight` and `truncated_fraction`.
    """

    def loss(logprobs_bT: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        def mean(x_bT: Tensor) -> Tensor:
            return (x_bT * batch.mask_BT).sum() / global_tokens

        old_bT = _present(batch.old_logprobs_BT, "old_logprobs_BT")
        ratio_bT = _masked(logprobs_bT - old_bT, batch).exp()
        surrogate_bT, cut_bT = _clipped(ratio_bT, batch.advantages_B[:, None], grpo)
        metrics = {
            "ratio": mean(ratio_bT),
            "clip_fraction": mean(cut_bT),
            "entropy": -mean(_masked(logprobs_bT, batch)),
        }
        if grpo.truncated_importance_sampling > 0:
            weight_bT = _masked(old_bT - batch.rollout_logprobs_BT, batch).exp()
            truncated_bT = weight_bT.clamp(max=grpo.truncated_importance_sampling)
            surrogate_bT = surrogate_bT * truncated_bT
            metrics["importance_weight"] = mean(truncated_bT)
            metrics["truncated_fraction"] = mean((truncated_bT < weight_bT).float())
        total = metrics["policy_loss"] = -mean(surrogate_bT)
        if grpo.kl_penalty > 0:
            reference_bT = _present(batch.reference_logprobs_BT, "reference_logprobs_BT")
            metrics["kl"] = mean(k3(_masked(logprobs_bT, batch), _masked(reference_bT, batch)))
            total = total + grpo.kl_penalty * metrics["kl"]
        return total, {name: value.detach() for name, value in metrics.items()}

    return loss


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy ‖ reference) per token: exp(d) - d - 1 with d = reference - policy;
    never negative.

    (joschu.net/blog/kl-approx.html). The tokens were drawn from the policy that is being changed, so the
    estimate is weighted by exp(logprob - the same, held constant): 1 in value, and it makes the gradient that
    of the KL itself, (logprob - reference) · ∇logprob in expectation (arXiv 2506.09477; NeMo RL does the
    same).
    """
    d = (reference_logprobs - logprobs).clamp(-KL_LOG_RATIO_LIMIT, KL_LOG_RATIO_LIMIT)
    score = (logprobs - logprobs.detach()).exp()
    return (d.exp() - d - 1).clamp(max=KL_LIMIT) * score


def mismatch(batch: Batch) -> dict[str, float]:
    """How far the trainer's log-probabilities are from the rollout's on the same tokens and weights.

    `token_mult_prob_error` is NeMo RL's: the mean of exp(|difference|); 1 means they agree, 1.05 is alarming.
    """
    old_BT = _present(batch.old_logprobs_BT, "old_logprobs_BT")
    difference = (old_BT - batch.rollout_logprobs_BT)[batch.mask_BT > 0].abs()
    if len(difference) == 0:
        raise ValueError("a batch without generated tokens has no mismatch")
    return {
        "mismatch_mean": difference.mean().item(),
        "mismatch_max": difference.max().item(),
        "token_mult_prob_error": difference.exp().mean().item(),
    }


def _clipped(ratio_bT: Tensor, advantages_b1: Tensor, grpo: Grpo) -> tuple[Tensor, Tensor]:
    """The pessimistic surrogate, and 1.0 where its gradient is cut off."""
    free_bT = ratio_bT * advantages_b1
    bound_bT = ratio_bT.clamp(1 - grpo.clip_min, 1 + grpo.clip_max) * advantages_b1
    return torch.minimum(free_bT, bound_bT), (bound_bT < free_bT).float()


def _masked(x_bT: Tensor, batch: Batch) -> Tensor:
    """0 where no token was generated, whatever stands there: even a NaN must not reach a sum or a
    gradient."""
    return x_bT.masked_fill(batch.mask_BT == 0, 0.0)


def _present(x: Tensor | None, name: str) -> Tensor:
    if x is None:
        raise ValueError(f"the batch has no {name}; compute it before the update")
    return x
