"""Fills a model from the converted checkpoint that `rljob_trainer convert` has made, whatever the layout."""

from __future__ import annotations

from pathlib import Path

import torch
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.models.gpt.gpt_model import GPTModel

from rljob_trainer.backend.megatron import checkpoint
from rljob_trainer.backend.megatron.checkpoint import CheckpointOptions


@torch.no_grad()
def load_converted(model: GPTModel, directory: Path, options: CheckpointOptions) -> None:
    """Each rank reads the pieces that overlap with its shards. Collective; for the policy and the reference alike."""
    sharded = model.sharded_state_dict(metadata=options.metadata)
    weights = {name: part for name, part in sharded.items() if not isinstance(part, ShardedObject)}
    model.load_state_dict(checkpoint.load(weights, directory, options), strict=False)
