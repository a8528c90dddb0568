"""Experts out of a finished dense model: what one MLP did, several copies of it that differ a little do together.

Sparse upcycling (arXiv 2212.05055). Training a router from nothing would take longer than a test has. Called by
`warm_start`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen3MoeForCausalLM

from .recipe import Recipe, model_config


@torch.no_grad()
def with_experts(dense: PreTrainedModel, recipe: Recipe) -> Qwen3MoeForCausalLM:
    """Attention, norms and embeddings as they are; routers are noise, so that all experts get tokens."""
    model = Qwen3MoeForCausalLM(model_config(recipe))
    model.load_state_dict(dense.state_dict(), strict=False)  # the MLPs it knows under other names
    for old, new in zip(dense.model.layers, model.model.layers, strict=True):
        gate_up = torch.cat([old.mlp.gate_proj.weight, old.mlp.up_proj.weight])
        _strayed(new.mlp.experts.gate_up_proj, gate_up, recipe)
        _strayed(new.mlp.experts.down_proj, old.mlp.down_proj.weight, recipe)
    return model.eval()


def _strayed(experts: Tensor, matrix: Tensor, recipe: Recipe) -> None:
    experts.copy_(matrix + torch.randn_like(experts) * recipe.expert_noise * matrix.std())
