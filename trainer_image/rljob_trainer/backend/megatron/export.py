"""Whole Hugging Face tensors out of the shards of all ranks, bucket by bucket.

A bucket is a run of parameters that the same ranks hold. Those who share its matrices gather them in one collective
and put them together; the result goes over expert ranks and over stages in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import prod

import torch
from megatron.core import parallel_state
from torch import Tensor, nn
from torch import distributed as dist

from rljob_trainer.backend.megatron.architecture import Architecture
from rljob_trainer.backend.megatron.mapping import Entry, Placed, join, name_in_table, placed_entries
from rljob_trainer.backend.megatron.parallel import Place

BUCKET_BYTES = 16 << 20
"""Parameters travel together up to this size; a larger one travels alone. As weight sync does it."""

Shapes = dict[str, torch.Size]
"""Of the shards, by the first Hugging Face name of their entry."""


Bucket = list[Placed]
"""Parameters of one stage, and there of all ranks or of one share of expert ranks."""


class Export:
    """Gives a model's weights away, as often as it is asked."""

    def __init__(
        self,
        chunks: Sequence[nn.Module],
        architecture: Architecture,
        place: Place,
        dtype: torch.dtype,
        limit: int = BUCKET_BYTES,
    ) -> None:
        """Learn the shapes of other ranks' shards. Collective."""
        self.architecture, self.place, self.dtype = architecture, place, dtype
        self.parameters = {
            (number, name_in_table(name)): value
            for number, chunk in enumerate(chunks)
            for name, value in chunk.named_parameters()
        }
        everything = placed_entries(architecture, place.stages, place.experts, place.chunks)
        self.shapes = self._shapes(everything)
        self.buckets = list(self._buckets(everything, limit // dtype.itemsize))

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors in the mapping's order, on every rank. Extra memory: about two buckets. Collective."""
        for bucket in self.buckets:
            tensors = self._joined(bucket) if self.place.holds(bucket[0]) else None
            for group, holder in self._audiences(bucket[0]):
                tensors = self._told(tensors, bucket, group, holder)
            assert tensors is not None
            yield from zip((name for placed in bucket for name in placed.entry.hf), tensors, strict=True)
            del tensors  # before the next are gathered

    def _shapes(self, everything: list[Placed]) -> Shapes:
        own = {
            placed.entry.hf[0]: self.parameters[placed.chunk, placed.entry.megatron].shape
            for placed in everything
            if self.place.holds(placed)
        }
        told: list[Shapes] = [{}] * dist.get_world_size()
        dist.all_gather_object(told, own)
        return {name: shape for shapes in told for name, shape in shapes.items()}

    def _buckets(self, everything: list[Placed], limit: int) -> Iterator[Bucket]:
        """Runs of at most `limit` numbers."""
        for _, run in groupby(everything, key=lambda placed: (placed.stage, placed.expert, placed.chunk)):
            bucket: Bucket = []
            size = 0
            for placed in run:
                numel = sum(prod(shape) for shape in self._whole_shapes(placed.entry))
                if bucket and size + numel > limit:
                    yield bucket
                    bucket, size = [], 0
                bucket.append(placed)
                size += numel
            yield bucket

    def _whole_shapes(self, entry: Entry) -> list[torch.Size]:
        ranks, _ = self.place.share_of(entry)
        shard = torch.empty(self.shapes[entry.hf[0]], device="meta")
        return [tensor.shape for tensor in join(entry.cut, [shard] * ranks, self.architecture)]

    def _joined(self, bucket: Bucket) -> list[Tensor]:
        """The bucket's whole tensors, on ranks that hold its shards."""
        ranks, _ = self.place.share_of(bucket[0].entry)
        entries = [placed.entry for placed in bucket]
        mine = (self.parameters[placed.chunk, placed.entry.megatron] for placed in bucket)
        own = _flat(parameter.detach().to(self.dtype) for parameter in mine)
        flats = [own]
        if ranks > 1:
            flats = [torch.empty_like(own) for _ in range(ranks)]
            dist.all_gather(flats, own, group=_sharers(bucket[0].entry))
        shapes = [self.shapes[entry.hf[0]] for entry in entries]
        by_entry = zip(*(_views(flat, shapes) for flat in flats), strict=True)
        return [
            tensor
            for entry, shards in zip(entries, by_entry, strict=True)
            for tensor in join(entry.cut, list(shards), self.architecture)
        ]

    def _audiences(self, placed: Placed) -> Iterator[tuple[dist.ProcessGroup, int]]:
        """Groups in which one member has the bucket and tells the others, in this order."""
        place = self.place
        if placed.expert is not None and place.experts > 1 and placed.stage == place.stage:
            yield parallel_state.get_expert_model_parallel_group(), placed.expert
        if place.stages > 1:
            yield parallel_state.get_pipeline_model_parallel_group(), placed.stage

    def _told(
        self, tensors: list[Tensor] | None, bucket: Bucket, group: dist.ProcessGroup, holder: int
    ) -> list[Tensor]:
        """What the member `holder` of a group has, on all its members."""
        shapes = [shape for placed in bucket for shape in self._whole_shapes(placed.entry)]
        device = next(iter(self.parameters.values())).device
        flat = (
            torch.empty(sum(map(prod, shapes)), dtype=self.dtype, device=device)
            if tensors is None
            else _flat(tensors)
        )
        dist.broadcast(flat, group=group, group_src=holder)
        return _views(flat, shapes)


def _sharers(entry: Entry) -> dist.ProcessGroup:
    """The ranks that share an entry's matrix."""
    group: dist.ProcessGroup = (
        parallel_state.get_expert_tensor_parallel_group()
        if entry.of_expert
        else parallel_state.get_tensor_model_parallel_group()
    )
    return group


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _views(flat: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    """Consecutive parts of `flat` in these shapes."""
    parts = torch.split(flat, [prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
