"""`spec.data`: which prompts are asked, in training and in held-out evaluation."""

from __future__ import annotations

from pydantic import Field

from .base import Spec

REASONING_GYM = "reasoning-gym:"
"""Prefix of a data source that is a reasoning-gym task, for example `reasoning-gym:chain_sum`."""


class Dataset(Spec):
    """Where prompts come from. Order is seeded by `algorithm.grpo.seed`; the position is part of every checkpoint."""

    source: str = Field(min_length=1, max_length=1024)
    """`builtin:addition`, `reasoning-gym:<task>`, a `.jsonl` or `.parquet` path, or a Hugging Face dataset id."""
    split: str = Field("", max_length=128)
    """Split of a Hugging Face dataset or of `builtin:addition`; empty means `train`, and `test` for validation."""
    config: str = Field("", max_length=128)
    """Configuration name of a Hugging Face dataset, for example `main` for `openai/gsm8k`."""
    prompt_key: str = Field("question", min_length=1, max_length=128)
    """Column that holds the prompt: a text, or a list of chat messages."""
    answer_key: str = Field("answer", min_length=1, max_length=128)
    """Column that holds the reference answer which `reward` compares with."""
    size: int = Field(1000, ge=1, le=100_000_000)
    """How many items a reasoning-gym task makes; without effect on other sources."""

    @property
    def is_file(self) -> bool:
        """Whether `source` means a file."""
        return self.source.endswith((".jsonl", ".parquet"))


class Data(Spec):
    """Prompts for training and for held-out evaluation."""

    train: Dataset
    """Prompts to train on."""
    validation: Dataset | None = None
    """Prompts to evaluate on, never trained on: a training prompt that also stands here is dropped."""
