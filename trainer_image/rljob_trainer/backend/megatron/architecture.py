"""Which Hugging Face models Megatron can train, and how their configuration reads in Megatron's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rljob_trainer.backend import dtensor
from rljob_trainer.backend.hf_files import read_config
from rljob_trainer.errors import Mistake


@dataclass(frozen=True)
class ExpertNames:
    """What a model calls its router and experts, below a layer; `{e}` is the expert."""

    router: str
    gate: str
    up: str
    down: str


@dataclass(frozen=True)
class Traits:
    """What tells one decoder from another."""

    qkv_bias: bool = False
    qk_norm: bool = False
    experts: ExpertNames | None = None


_QWEN_EXPERTS = ExpertNames(
    "mlp.gate", "mlp.experts.{e}.gate_proj", "mlp.experts.{e}.up_proj", "mlp.experts.{e}.down_proj"
)
_MIXTRAL_EXPERTS = ExpertNames(
    "block_sparse_moe.gate",
    "block_sparse_moe.experts.{e}.w1",
    "block_sparse_moe.experts.{e}.w3",
    "block_sparse_moe.experts.{e}.w2",
)

ARCHITECTURES = {
    "llama": Traits(),
    "mixtral": Traits(experts=_MIXTRAL_EXPERTS),
    "qwen2": Traits(qkv_bias=True),
    "qwen3": Traits(qk_norm=True),
    "qwen3_moe": Traits(qk_norm=True, experts=_QWEN_EXPERTS),
}
"""Hugging Face `model_type` → traits."""


LLAMA3_POSITIONS = {"low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}
"""Which rotary positions of type `llama3` are stretched: megatron-core has these numbers as constants."""


@dataclass(frozen=True)
class Experts:
    """The sizes of a layer whose MLP is many, of which a router picks a few for each token."""

    count: int
    per_token: int
    hidden: int
    weights_sum_to_one: bool
    """Whether the weights of the picked experts are scaled to sum to 1."""


@dataclass(frozen=True)
class Architecture:
    """The sizes of a decoder with grouped queries, rotary positions and gated MLPs."""

    model_type: str
    traits: Traits
    layers: int
    hidden: int
    mlp_hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    max_length: int
    tied: bool
    norm_eps: float
    rope_theta: float
    rope_factor: float | None
    """By which Llama 3.1 and later stretch their slow rotary positions; None: not at all."""
    experts: Experts | None
    """None: one MLP a layer."""

    def padded_vocab(self, tensor: int) -> int:
        """The vocabulary, filled up so that every tensor rank holds the same number of rows."""
        return -(-self.vocab // tensor) * tensor


def read_architecture(model: Path) -> Architecture:
    """Raises `Mistake` for a model that this backend has no mapping for."""
    config = read_config(model)
    traits = ARCHITECTURES.get(config.model_type)
    if traits is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise Mistake(
            f"spec.model.source: the megatron backend has no mapping for model type {config.model_type!r} "
            f"(it knows {known}); {_way_on(config)}"
        )
    _refuse_variants(config)
    heads, positions = config.num_attention_heads, config.rope_parameters
    return Architecture(
        model_type=config.model_type,
        traits=traits,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        mlp_hidden=config.intermediate_size,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocab=config.vocab_size,
        max_length=config.max_position_embeddings,
        tied=config.tie_word_embeddings,
        norm_eps=config.rms_norm_eps,
        rope_theta=positions["rope_theta"],
        rope_factor=positions["factor"] if _rope_type(positions) == "llama3" else None,
        experts=_experts(config) if traits.experts else None,
    )


def _experts(config: Any) -> Experts:
    """Mixtral gives its experts the names of a dense MLP, and always scales their weights."""
    return Experts(
        count=config.num_local_experts,
        per_token=config.num_experts_per_tok,
        hidden=getattr(config, "moe_intermediate_size", config.intermediate_size),
        weights_sum_to_one=getattr(config, "norm_topk_prob", True),
    )


def _refuse_variants(config: Any) -> None:
    """Raises `Mistake` for what a known model type can be configured to and this backend does not compute."""
    positions = config.rope_parameters
    rope = _rope_type(positions)
    stretched = {name: positions.get(name) for name in LLAMA3_POSITIONS if rope == "llama3"}
    turned = positions.get("partial_rotary_factor", 1.0)
    biased = [name for name in ("attention_bias", "mlp_bias") if getattr(config, name, False)]
    window = getattr(config, "sliding_window", None)
    dense = [*getattr(config, "mlp_only_layers", ()), getattr(config, "decoder_sparse_step", 1) - 1]
    one_expert = getattr(config, "num_experts_per_tok", 2) == 1 and getattr(config, "norm_topk_prob", True)
    for unknown, what in (
        (rope not in ("default", "llama3"), f"rotary positions 'default' and 'llama3' only, not {rope!r}"),
        (
            stretched not in ({}, LLAMA3_POSITIONS),
            f"rotary positions 'llama3' with {_told(LLAMA3_POSITIONS)} only, not with {_told(stretched)}",
        ),
        (turned != 1, f"rotary positions in whole heads only, not in {turned} of each"),
        (biased, f"models of type {config.model_type!r} without {' and '.join(biased)} only"),
        (window is not None, f"attention over the whole context only, not over a sliding window of {window}"),
        (config.hidden_act != "silu", f"the activation 'silu' only, not {config.hidden_act!r}"),
        (any(dense), "models whose layers all have experts, or none"),
        (one_expert, "two or more experts a token when their weights sum to one"),
    ):
        if unknown:
            raise Mistake(f"spec.model.source: the megatron backend knows {what}; {_way_on(config)}")


def _way_on(config: Any) -> str:
    return "use backend: dtensor" if config.model_type in dtensor.ARCHITECTURES else "choose another model"


def _rope_type(positions: Mapping[str, Any]) -> str:
    kind: str = positions.get("rope_type", "default")
    return kind


def _told(numbers: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


TRAINING_DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}
"""Compute dtype by device type; master weights are float32 on both."""
