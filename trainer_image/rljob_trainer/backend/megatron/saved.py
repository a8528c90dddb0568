"""What a Megatron checkpoint calls a parameter, and a checkpoint as Hugging Face tensors.

The conversion writes by these names; `rljob checkpoint export` reads by them, in one process without ranks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from rljob_trainer.backend.megatron.architecture import Architecture
from rljob_trainer.backend.megatron.mapping import Entry, join, placed_entries

OPTIMIZER = "optimizer."
"""Under which a checkpoint keeps what is no parameter."""
_OF_LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.+)")
_OF_EXPERT = re.compile(r"mlp\.experts\.local_experts\.(\d+)\.(.+)")
_NAMES_ON_DISK = {
    "input_layernorm.weight": "self_attention.linear_qkv.layer_norm_weight",
    "pre_mlp_layernorm.weight": "mlp.linear_fc1.layer_norm_weight",
}
"""Megatron saves these two norms as if they were fused with the matrix behind them."""


@dataclass(frozen=True)
class Slot:
    """Where a parameter stands: all layers, and all experts of a layer, are one tensor of the checkpoint."""

    name: str
    index: tuple[int, ...]
    """Along the tensor's first axes: nothing, the layer, or the layer and the expert."""


def slot_of(entry: Entry) -> Slot:
    """Of a parameter as a model on one rank counts its layers and experts: from 0."""
    of_layer = _OF_LAYER.fullmatch(entry.megatron)
    if of_layer is None:
        return Slot(entry.megatron, ())
    layer, name = int(of_layer[1]), of_layer[2]
    if of_expert := _OF_EXPERT.fullmatch(name):
        return Slot(f"decoder.layers.mlp.experts.experts.{of_expert[2]}", (layer, int(of_expert[1])))
    return Slot(f"decoder.layers.{_NAMES_ON_DISK.get(name, name)}", (layer,))


def hf_weights(saved: Mapping[str, Tensor], architecture: Architecture) -> Iterator[tuple[str, Tensor]]:
    """Names and whole tensors, from those of a checkpoint."""
    for placed in placed_entries(architecture, pipeline=1):
        slot = slot_of(placed.entry)
        whole = saved[slot.name][slot.index]
        yield from zip(placed.entry.hf, join(placed.entry.cut, [whole], architecture), strict=True)
