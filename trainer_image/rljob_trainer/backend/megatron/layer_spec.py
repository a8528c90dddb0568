"""Of which modules Megatron builds a layer: Transformer Engine's where it is installed on a GPU, else Megatron's own.

Megatron's own lack two things, which are here: a norm that knows sequence parallelism, and attention that makes no
matrix of all scores, and knows context parallelism.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.extensions.transformer_engine import HAVE_TE
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig

from rljob_trainer.backend.megatron.attention import Attention, ContextAttention


class RMSNorm(torch.nn.RMSNorm):
    """Torch's norm with the signature of Megatron's. Under sequence parallelism ranks see different tokens, and
    Megatron adds up the gradients of weights that are marked so.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float, **_: Any) -> None:
        super().__init__(hidden_size, eps=eps)
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined] # read by Megatron


def uses_transformer_engine() -> bool:
    """Whether layers are Transformer Engine's: it is installed, and there is a GPU for it."""
    return bool(HAVE_TE) and torch.cuda.is_available()


def block_spec(config: TransformerConfig, chunk: int | None) -> ModuleSpec | TransformerBlockSubmodules:
    """What `GPTModel` is to build on this stage, or in one of its chunks."""
    if uses_transformer_engine():
        return _transformer_engine_layer(config)
    layer = _local_layer(config)
    return TransformerBlockSubmodules([layer] * get_num_layers_to_build(config, chunk), RMSNorm)


def _transformer_engine_layer(config: TransformerConfig) -> ModuleSpec:
    """It saves the norm before experts under a name of its own; here under the one that conversions give to it, so that
    a checkpoint can be loaded with and without Transformer Engine.
    """
    layer = get_gpt_layer_with_transformer_engine_spec(
        num_experts=config.num_moe_experts, moe_grouped_gemm=False, qk_layernorm=config.qk_layernorm
    )
    layer.submodules.sharded_state_dict_keys_map["pre_mlp_layernorm."] = "mlp.linear_fc1.layer_norm_"
    return layer


def _local_layer(config: TransformerConfig) -> ModuleSpec:
    layer = get_gpt_layer_local_spec(
        num_experts=config.num_moe_experts, normalization="RMSNorm", qk_layernorm=config.qk_layernorm
    )
    parts, attention = layer.submodules, layer.submodules.self_attention.submodules
    parts.input_layernorm = parts.pre_mlp_layernorm = RMSNorm
    if config.qk_layernorm:
        attention.q_layernorm = attention.k_layernorm = RMSNorm
    attention.core_attention = ContextAttention if config.context_parallel_size > 1 else Attention
    return layer
