"""Build Megatron's GPT for this rank."""

from __future__ import annotations

from typing import Any, assert_never

import torch
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn.functional import silu

from rljob_api.parallelism import Recompute
from rljob_trainer.backend.megatron import cpu
from rljob_trainer.backend.megatron.architecture import Architecture, Experts
from rljob_trainer.backend.megatron.layer_spec import block_spec
from rljob_trainer.backend.megatron.parallel import Place


def transformer_config(
    architecture: Architecture,
    place: Place,
    dtype: torch.dtype,
    dropout: float,
    recompute: Recompute = Recompute.NONE,
) -> TransformerConfig:
    """Megatron's configuration. Fused kernels are off: they need Apex or Transformer Engine."""
    return TransformerConfig(
        num_layers=architecture.layers,
        hidden_size=architecture.hidden,
        ffn_hidden_size=architecture.mlp_hidden,
        num_attention_heads=architecture.heads,
        num_query_groups=architecture.kv_heads,
        kv_channels=architecture.head_dim,
        normalization="RMSNorm",
        layernorm_epsilon=architecture.norm_eps,
        gated_linear_unit=True,
        activation_func=silu,
        add_bias_linear=False,
        add_qkv_bias=architecture.traits.qkv_bias,
        qk_layernorm=architecture.traits.qk_norm,
        hidden_dropout=0.0,
        attention_dropout=dropout,
        attention_softmax_in_fp32=True,
        tensor_model_parallel_size=place.tensors,
        pipeline_model_parallel_size=place.stages,
        expert_model_parallel_size=place.experts,
        expert_tensor_parallel_size=place.expert_tensors,
        context_parallel_size=place.contexts,
        sequence_parallel=place.sequence,
        pipeline_dtype=dtype,
        params_dtype=dtype,
        bf16=dtype is torch.bfloat16,
        # Micro-batches differ in rows and width, so stages tell one another the shape first.
        variable_seq_lengths=place.stages > 1 and place.chunks == 1,
        **_chunks_config(place.chunks),
        **_recompute_config(recompute),
        **_experts_config(architecture.experts),
        # The schedule then neither divides the loss by micro-batches nor multiplies it by context ranks, and
        # DDP sums over replicas instead of averaging: what a loss function of the protocol needs.
        calculate_per_token_loss=True,
        use_cpu_initialization=not torch.cuda.is_available(),
        gradient_accumulation_fusion=False,
        masked_softmax_fusion=False,
        bias_dropout_fusion=False,
        cuda_graph_scope=[],  # what the default comes to, which warns that it is deprecated
        bias_activation_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
    )


def _chunks_config(chunks: int) -> dict[str, Any]:
    """In one batch, as is the default, two stages would take one another's gradients for hidden states: with chunks
    each is both before and after the other.
    """
    if chunks == 1:
        return {}
    return {
        "virtual_pipeline_model_parallel_size": chunks,
        "overlap_p2p_comm": True,
        "batch_p2p_comm": False,
    }


def _recompute_config(recompute: Recompute) -> dict[str, Any]:
    match recompute:
        case Recompute.NONE:
            return {}
        case Recompute.SELECTIVE:
            return {"recompute_granularity": "selective"}
        case Recompute.FULL:
            return {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
        case _:
            assert_never(recompute)


def _experts_config(experts: Experts | None) -> dict[str, Any]:
    """Nothing balances the load of experts: in RL such a loss would pull the policy away from what is rewarded."""
    dispatcher = {"moe_token_dispatcher_type": "alltoall"}  # the default is refused with shapes that vary
    if experts is None:
        return dispatcher
    return dispatcher | {
        "num_moe_experts": experts.count,
        "moe_ffn_hidden_size": experts.hidden,
        "moe_router_topk": experts.per_token,
        "moe_router_pre_softmax": not experts.weights_sum_to_one,
        "moe_router_load_balancing_type": "none",
        "moe_router_dtype": "fp32",
    }


def build_model(
    architecture: Architecture, config: TransformerConfig, place: Place, chunk: int = 0
) -> GPTModel:
    """This rank's part of the model, or one chunk of it; its weights are noise."""
    virtual = chunk if place.chunks > 1 else None
    cpu.adapt()
    with cpu.stand_in():
        return GPTModel(
            config,
            block_spec(config, virtual),
            vocab_size=architecture.padded_vocab(place.tensors),
            max_sequence_length=architecture.max_length,
            pre_process=place.stage == 0 and chunk == 0,
            post_process=place.is_last_stage and chunk == place.chunks - 1,
            share_embeddings_and_output_weights=architecture.tied,
            position_embedding_type="rope",
            rotary_base=architecture.rope_theta,
            rope_scaling=architecture.rope_factor is not None,
            rope_scaling_factor=architecture.rope_factor or 1.0,
            parallel_output=True,
            vp_stage=virtual,
        )
