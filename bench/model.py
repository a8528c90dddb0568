"""Qwen3 models of any size with random weights, made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from rljob_trainer.builtin.addition.tokenizer import EOS, PAD, VOCABULARY, make_tokenizer


@dataclass(frozen=True)
class Shape:
    hidden: int
    layers: int
    vocabulary: int
    heads: int = 8
    context: int = 512


def make_qwen3(directory: Path, shape: Shape) -> int:
    """Config, weights and the addition model's tokenizer in `directory`; how many parameters there are."""
    torch.manual_seed(0)
    config = Qwen3Config(
        architectures=["Qwen3ForCausalLM"],
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=3 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads // 2,
        head_dim=max(32, shape.hidden // shape.heads),  # vLLM's CPU attention knows no smaller one
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        pad_token_id=VOCABULARY.index(PAD),
        eos_token_id=VOCABULARY.index(EOS),
        dtype="float32",
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return sum(parameter.numel() for parameter in model.parameters())
