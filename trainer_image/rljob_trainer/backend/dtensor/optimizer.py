"""AdamW over sharded parameters: all ranks agree on the gradient's norm before any of them changes a weight."""

from __future__ import annotations

import math

from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW

from rljob_api.parallelism import Optimizer
from rljob_trainer.backend.adam import set_numbers
from rljob_trainer.backend.protocol import NonFiniteGradientError


def build_optimizer(model: nn.Module, options: Optimizer) -> AdamW:
    """Matrices decay; biases and norm scales do not, as is the custom (and megatron-core's default)."""
    parameters = list(model.parameters())
    matrices, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim == 1]
    optimizer = AdamW([{"params": matrices}, {"params": others}], lr=0.0)
    set_options(optimizer, options)
    return optimizer


def set_options(optimizer: AdamW, options: Optimizer) -> None:
    """Of an optimizer as built here: at its start, and again after its state was loaded."""
    matrices, others = optimizer.param_groups
    set_numbers(matrices, options, 1.0)
    set_numbers(others, options, 0.0)


def update(
    optimizer: AdamW, model: nn.Module, learning_rate: float, max_norm: float, *, check_finite: bool
) -> float:
    """One update; the gradient's norm before clipping. Raises `NonFiniteGradientError` before anything has changed."""
    parameters = list(model.parameters())
    total = get_total_norm([p.grad for p in parameters if p.grad is not None])
    total = total.full_tensor() if isinstance(total, DTensor) else total
    norm = float(
        total
    )  # over all shards: the same on all ranks, and not finite if any gradient anywhere is not
    if check_finite and not math.isfinite(norm):
        raise NonFiniteGradientError(f"the gradient's norm over all ranks is {norm}")
    if max_norm > 0:
        clip_grads_with_norm_(parameters, max_norm, total)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    return norm
