"""Whole Hugging Face tensors out of the shards of all ranks, bucket by bucket.

A bucket is a run of parameters that the same ranks hold. Those who share its matrices gather them in one collective,
and their shards go over expert ranks and over stages in another; each rank then puts together one parameter at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

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
        *,
        gather: Callable[[Iterable[nn.Parameter]], None] = lambda _: None,
    ) -> None:
        """Learn the shapes of other ranks' shards. Collective.

        `gather` is given parameters before they are read.
        """
        self.architecture, self.place, self.dtype, self.gather = architecture, place, dtype, gather
        self.parameters = {
            (number, name_in_table(name)): value
            for number, chunk in enumerate(chunks)
            for name, value in chunk.named_parameters()
        }
        self.device = next(iter(self.parameters.values())).device
        everything = placed_entries(architecture, place.stages, place.experts, place.chunks)
        self.shapes = self._shapes(everything)
        self.buckets = list(self._buckets(everything, limit // dtype.itemsize))

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors in the mapping's order, on every rank; each has memory of its own. Collective.

        Extra memory: a bucket, and the tensors of one entry.
        """
        for bucket in self.buckets:
            yield from self._tensors(bucket)

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
                numel = self.place.share_of(placed.entry)[0] * self._shape(placed).numel()
                if bucket and size + numel > limit:
                    yield bucket
                    bucket, size = [], 0
                bucket.append(placed)
                size += numel
            yield bucket

    def _shape(self, placed: Placed) -> torch.Size:
        """Of a shard, on any rank."""
        return self.shapes[placed.entry.hf[0]]

    def _tensors(self, bucket: Bucket) -> Iterator[tuple[str, Tensor]]:
        """Put together one after the other; no two of these generators live at a time."""
        gathered, start = self._gathered(bucket), 0
        for placed in bucket:
            shape = self._shape(placed)
            end = start + shape.numel()
            shards = [one[start:end].view(shape) for one in gathered]
            yield from zip(placed.entry.hf, join(placed.entry.cut, shards, self.architecture), strict=True)
            start = end

    def _gathered(self, bucket: Bucket) -> Tensor:
        """The shards of all that share the bucket's matrices, in a row each: [ranks, numbers]."""
        ranks, rank = self.place.share_of(bucket[0].entry)
        numel = sum(self._shape(placed).numel() for placed in bucket)
        gathered = torch.empty(ranks, numel, dtype=self.dtype, device=self.device)
        if self.place.holds(bucket[0]):
            self._fill(gathered[rank], bucket)
            if ranks > 1:
                dist.all_gather_into_tensor(
                    gathered.view(-1), gathered[rank], group=_sharers(bucket[0].entry)
                )
        for group, holder in self._audiences(bucket[0]):
            dist.broadcast(gathered, group=group, group_src=holder)
        return gathered

    def _fill(self, row: Tensor, bucket: Bucket) -> None:
        """With this rank's own shards."""
        own = [self.parameters[placed.chunk, placed.entry.megatron] for placed in bucket]
        self.gather(own)
        for part, parameter in zip(torch.split(row, [one.numel() for one in own]), own, strict=True):
            part.copy_(parameter.detach().reshape(-1))

    def _audiences(self, placed: Placed) -> Iterator[tuple[dist.ProcessGroup, int]]:
        """Groups in which one member has the bucket and tells the others, in this order."""
        place = self.place
        if placed.expert is not None and place.experts > 1 and placed.stage == place.stage:
            yield parallel_state.get_expert_model_parallel_group(), placed.expert
        if place.stages > 1:
            yield parallel_state.get_pipeline_model_parallel_group(), placed.stage


def _sharers(entry: Entry) -> dist.ProcessGroup:
    """The ranks that share an entry's matrix."""
    group: dist.ProcessGroup = (
        parallel_state.get_expert_tensor_parallel_group()
        if entry.of_expert
        else parallel_state.get_tensor_model_parallel_group()
    )
    return group
