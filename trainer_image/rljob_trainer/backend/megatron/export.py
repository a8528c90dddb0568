"""Whole Hugging Face tensors out of the shards of all ranks, one parameter at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from megatron.core import parallel_state
from torch import Tensor, nn
from torch import distributed as dist

from rljob_trainer.backend.megatron.architecture import Architecture
from rljob_trainer.backend.megatron.mapping import Entry, join, placed_entries
from rljob_trainer.backend.megatron.parallel import Place


def whole_weights(
    model: nn.Module, architecture: Architecture, place: Place, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors in the mapping's order, on every rank. Extra memory: one parameter. Collective."""
    parameters = dict(model.named_parameters())
    for placed in placed_entries(architecture, place.stages):
        entry = placed.entry
        own = placed.stage == place.stage
        tensors = (
            _joined(parameters[entry.megatron].detach().to(dtype), entry, architecture, place)
            if own
            else None
        )
        yield from zip(entry.hf, _from_stage(tensors, placed.stage, place, dtype), strict=True)


def _joined(shard: Tensor, entry: Entry, architecture: Architecture, place: Place) -> list[Tensor]:
    shards = [torch.empty_like(shard) for _ in range(place.tensors)]
    dist.all_gather(shards, shard.contiguous(), group=parallel_state.get_tensor_model_parallel_group())
    return [tensor.contiguous() for tensor in join(entry.cut, shards, architecture)]


def _from_stage(tensors: list[Tensor] | None, stage: int, place: Place, dtype: torch.dtype) -> list[Tensor]:
    """What the ranks of `stage` joined, on the ranks of all stages."""
    if place.stages == 1:
        assert tensors is not None
        return tensors
    group = parallel_state.get_pipeline_model_parallel_group()
    source = dist.get_global_rank(group, stage)
    shapes: list[list[torch.Size] | None] = [None if tensors is None else [t.shape for t in tensors]]
    dist.broadcast_object_list(shapes, src=source, group=group)
    assert shapes[0] is not None
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
    received = tensors or [torch.empty(shape, dtype=dtype, device=device) for shape in shapes[0]]
    for tensor in received:
        dist.broadcast(tensor, src=source, group=group)
    return received
