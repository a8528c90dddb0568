"""Which Hugging Face models Megatron can train, and how their configuration reads in Megatron's words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig

from rljob_trainer.errors import Mistake


@dataclass(frozen=True)
class Traits:
    """What tells one dense decoder from another."""

    qkv_bias: bool = False
    qk_norm: bool = False


ARCHITECTURES = {
    "llama": Traits(),
    "qwen2": Traits(qkv_bias=True),
    "qwen3": Traits(qk_norm=True),
}
"""Hugging Face `model_type` → traits."""


@dataclass(frozen=True)
class Architecture:
    """The sizes of a dense decoder with grouped queries, rotary positions and a gated MLP."""

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

    def padded_vocab(self, tensor: int) -> int:
        """The vocabulary, filled up so that every tensor rank holds the same number of rows."""
        return -(-self.vocab // tensor) * tensor


def read_architecture(model: Path) -> Architecture:
    """Raises `Mistake` for a model that this backend has no mapping for."""
    config = AutoConfig.from_pretrained(model)
    traits = ARCHITECTURES.get(config.model_type)
    if traits is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise Mistake(
            f"spec.model.source: the megatron backend has no mapping for model type {config.model_type!r} "
            f"(it knows {known}); use backend: dtensor"
        )
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        raise Mistake(
            f"spec.model.source: the megatron backend knows plain rotary positions only, not "
            f"{rope['rope_type']!r}; use backend: dtensor"
        )
    heads = config.num_attention_heads
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
        rope_theta=rope["rope_theta"],
    )


def refuse_uneven(architecture: Architecture, tensor: int, pipeline: int) -> None:
    """Raises `Mistake` when heads, columns or layers do not divide by the ranks that are to share them."""
    for count, what, ranks, field in (
        (architecture.kv_heads, "key-value heads", tensor, "tensor"),
        (architecture.mlp_hidden, "MLP columns", tensor, "tensor"),
        (architecture.layers, "layers", pipeline, "pipeline"),
    ):
        if count % ranks:
            allowed = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0 and n <= 64)
            raise Mistake(
                f"spec.parallelism.{field}: {ranks} does not divide the model's {count} {what}; "
                f"choose one of {allowed}"
            )


TRAINING_DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}
"""Compute dtype by device type; master weights are float32 on both."""
