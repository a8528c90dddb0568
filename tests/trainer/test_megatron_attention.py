"""Attention by torch's kernels against Megatron's own, which makes the matrix of all scores."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from trainer.ranks import run_ranks

ROWS, HEADS, WIDTH, HEAD_DIM = 3, 4, 64, 32


@dataclass(frozen=True)
class Outcome:
    """Of one attention over the same input."""

    context: Tensor
    gradients: list[Tensor]
    kept: int
    """Numbers that the largest tensor has which is kept for the backward pass."""


def attend(groups: int) -> tuple[Outcome, Outcome]:
    """Ours and Megatron's."""
    from megatron.core.transformer.dot_product_attention import DotProductAttention
    from megatron.core.transformer.enums import AttnMaskType
    from megatron.core.transformer.transformer_config import TransformerConfig

    from rljob_api.manifest import RngSharding
    from rljob_api.parallelism import Parallelism
    from rljob_trainer.backend.megatron import cpu, parallel
    from rljob_trainer.backend.megatron.attention import Attention

    parallel.seed_rank(0, parallel.take_place(Parallelism(), None), RngSharding.PP_TP)
    config = TransformerConfig(
        num_layers=1,
        hidden_size=HEADS * HEAD_DIM,
        num_attention_heads=HEADS,
        num_query_groups=groups,
        kv_channels=HEAD_DIM,
        attention_dropout=0.0,
        masked_softmax_fusion=False,
    )
    cpu.adapt()
    with cpu.stand_in():
        made = (kind(config, 1, AttnMaskType.causal, "self") for kind in (Attention, DotProductAttention))
        ours, theirs = (outcome(attention.train(), groups) for attention in made)
    return ours, theirs


def outcome(attention: torch.nn.Module, groups: int) -> Outcome:
    draw = torch.Generator().manual_seed(3)
    inputs = [
        torch.randn(WIDTH, ROWS, heads, HEAD_DIM, generator=draw).requires_grad_()
        for heads in (HEADS, groups, groups)
    ]
    hidden = torch.ones(WIDTH, WIDTH, dtype=torch.bool).triu(1)[None, None]
    kept = [0]

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        context = attention(*inputs, hidden)
    context.square().sum().backward()
    gradients = [one.grad for one in inputs if one.grad is not None]
    return Outcome(context.detach(), gradients, max(kept))


@pytest.mark.parametrize("groups", [HEADS, 2, 1])
def test_it_is_megatrons_without_the_matrix_of_scores(groups: int) -> None:
    ((ours, theirs),) = run_ranks(1, attend, groups)
    torch.testing.assert_close(ours.context, theirs.context, atol=1e-6, rtol=1e-5)
    assert len(ours.gradients) == 3
    torch.testing.assert_close(ours.gradients, theirs.gradients, atol=1e-5, rtol=1e-5)
    scores = ROWS * HEADS * WIDTH * WIDTH
    assert ours.kept < scores <= theirs.kept
