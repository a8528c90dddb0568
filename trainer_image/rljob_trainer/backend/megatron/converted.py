"""Fills a model from the converted checkpoint that `rljob_trainer convert` has made, whatever the layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.models.gpt.gpt_model import GPTModel

from rljob_trainer.backend.megatron import checkpoint
from rljob_trainer.backend.megatron.checkpoint import CheckpointOptions, State


@torch.no_grad()
def load_converted(chunks: Sequence[GPTModel], directory: Path, options: CheckpointOptions) -> None:
    """Each rank reads the pieces that overlap with its shards. Collective; for the policy and the reference alike."""
    weights = {str(number): _weights(chunk, options) for number, chunk in enumerate(chunks)}
    loaded = checkpoint.load(weights, directory, options)
    for number, chunk in enumerate(chunks):
        chunk.load_state_dict(loaded[str(number)], strict=False)


def _weights(chunk: GPTModel, options: CheckpointOptions) -> State:
    sharded = chunk.sharded_state_dict(metadata=options.metadata)
    return {name: part for name, part in sharded.items() if not isinstance(part, ShardedObject)}
