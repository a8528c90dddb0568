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
    for placed in placed_entries(architecture, place.stages, place.experts):
        entry, tensors = placed.entry, None
        if place.holds(placed):
            tensors = _joined(parameters[entry.megatron].detach().to(dtype), entry, architecture, place)
        if placed.expert is not None and placed.stage == place.stage and place.experts > 1:
            tensors = _told(tensors, parallel_state.get_expert_model_parallel_group(), placed.expert, dtype)
        if place.stages > 1:
            tensors = _told(tensors, parallel_state.get_pipeline_model_parallel_group(), placed.stage, dtype)
        assert tensors is not None
        yield from zip(entry.hf, tensors, strict=True)


def _joined(shard: Tensor, entry: Entry, architecture: Architecture, place: Place) -> list[Tensor]:
    ranks, _ = place.share_of(entry)
    shards = [torch.empty_like(shard) for _ in range(ranks)]
    group = (
        parallel_state.get_expert_tensor_parallel_group()
        if entry.of_expert
        else parallel_state.get_tensor_model_parallel_group()
    )
    dist.all_gather(shards, shard.contiguous(), group=group)
    return [tensor.contiguous() for tensor in join(entry.cut, shards, architecture)]


def _told(
    tensors: list[Tensor] | None, group: dist.ProcessGroup, holder: int, dtype: torch.dtype
) -> list[Tensor]:
    """What the member `holder` of a group has, on all its members."""
    source = dist.get_global_rank(group, holder)
    shapes: list[list[torch.Size] | None] = [None if tensors is None else [t.shape for t in tensors]]
    dist.broadcast_object_list(shapes, src=source, group=group)
    assert shapes[0] is not None
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
    received = tensors or [torch.empty(shape, dtype=dtype, device=device) for shape in shapes[0]]
    for tensor in received:
        dist.broadcast(tensor, src=source, group=group)
    return received
