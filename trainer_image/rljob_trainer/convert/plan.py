"""What a conversion writes: every parameter whole, in pieces that training ranks can read one by one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import gcd

import torch
from torch import Tensor

from rljob_trainer.backend.megatron.architecture import Architecture
from rljob_trainer.backend.megatron.mapping import Cut, Entry, placed_entries, split
from rljob_trainer.backend.megatron.saved import Slot, slot_of

TENSOR_RANKS = 8
"""Pieces are cut for up to so many tensor-parallel ranks: a rank then reads its own rows or columns only."""
LEAST_PIECE_BYTES = 1 << 20
"""Smaller ones cost more in bookkeeping than they save in reading."""


@dataclass(frozen=True)
class Part:
    """One parameter in the checkpoint."""

    entry: Entry
    slot: Slot
    shape: torch.Size
    """Of the whole parameter."""
    axis: int
    pieces: int
    """Equal pieces along `axis`."""
    bytes: int


def parts(architecture: Architecture, shapes: Mapping[str, torch.Size], dtype: torch.dtype) -> list[Part]:
    """In the mapping's order; `shapes` are those of the Hugging Face tensors."""
    return [_part(placed.entry, architecture, shapes, dtype) for placed in placed_entries(architecture, 1)]


def piece(part: Part, number: int, tensors: list[Tensor], architecture: Architecture) -> Tensor:
    """One of the part's pieces out of its Hugging Face tensors; a view of theirs where it can be."""
    if part.pieces == 1:
        return _whole(part.entry, tensors, architecture)
    match part.entry.cut:
        case Cut.QKV:
            own = [tensor.chunk(part.pieces)[number] for tensor in tensors]
            fewer = replace(architecture, kv_heads=architecture.kv_heads // part.pieces)
            return _whole(part.entry, own, fewer)
        case Cut.GATE_UP:
            half, row = divmod(number, part.pieces // 2)
            return tensors[half].chunk(part.pieces // 2)[row]
        case _:
            return tensors[0].chunk(part.pieces, dim=part.axis)[number]


def _whole(entry: Entry, tensors: list[Tensor], architecture: Architecture) -> Tensor:
    """Megatron's parameter as one rank alone would hold it."""
    return split(entry.cut, tensors, architecture, 1, 0)


def share(everything: list[Part], ranks: int, rank: int) -> list[Part]:
    """A run of neighbours; all ranks get about the same number of bytes."""
    total = sum(part.bytes for part in everything)
    mine, before = [], 0
    for part in everything:
        if (before + part.bytes // 2) * ranks // total == rank:
            mine.append(part)
        before += part.bytes
    return mine


def _part(
    entry: Entry, architecture: Architecture, shapes: Mapping[str, torch.Size], dtype: torch.dtype
) -> Part:
    shape = _whole(entry, [torch.empty(shapes[name], device="meta") for name in entry.hf], architecture).shape
    size = shape.numel() * dtype.itemsize
    slot, axis = slot_of(entry), 1 if entry.cut is Cut.COLUMNS else 0
    return Part(entry, slot, shape, axis, _pieces(entry, shape[axis], slot, size, architecture), size)


def _pieces(entry: Entry, length: int, slot: Slot, size: int, architecture: Architecture) -> int:
    """As many as tensor ranks may ask for. An expert stays whole: there are many of them already."""
    if len(slot.index) > 1 or size < LEAST_PIECE_BYTES * TENSOR_RANKS:
        return 1
    match entry.cut:
        case Cut.QKV:
            return gcd(TENSOR_RANKS, architecture.kv_heads)
        case Cut.GATE_UP:  # a rank holds one piece of each half
            return 2 * gcd(TENSOR_RANKS, length // 2)
        case Cut.WHOLE:
            return 1
        case _:
            return gcd(TENSOR_RANKS, length)
