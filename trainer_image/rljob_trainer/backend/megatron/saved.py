"""A Megatron checkpoint as Hugging Face tensors, by one process without ranks: for `rljob checkpoint export`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from rljob_trainer.backend.megatron.architecture import Architecture
from rljob_trainer.backend.megatron.mapping import Entry, join, placed_entries

OPTIMIZER = "optimizer."
"""Under which a checkpoint keeps what is no parameter."""
_OF_LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.+)")
_NAMES_ON_DISK = {
    "input_layernorm.weight": "self_attention.linear_qkv.layer_norm_weight",
    "pre_mlp_layernorm.weight": "mlp.linear_fc1.layer_norm_weight",
}
"""Megatron saves these two norms as if they were fused with the matrix behind them."""


def hf_weights(saved: Mapping[str, Tensor], architecture: Architecture) -> Iterator[tuple[str, Tensor]]:
    """Names and whole tensors, from those of a checkpoint: there all layers are one tensor, along its first axis."""
    for placed in placed_entries(architecture, pipeline=1):
        whole = _tensor(saved, placed.entry)
        yield from zip(placed.entry.hf, join(placed.entry.cut, [whole], architecture), strict=True)


def _tensor(saved: Mapping[str, Tensor], entry: Entry) -> Tensor:
    of_layer = _OF_LAYER.fullmatch(entry.megatron)
    if of_layer is None:
        return saved[entry.megatron]
    number, name = of_layer.groups()
    return saved[f"decoder.layers.{_NAMES_ON_DISK.get(name, name)}"][int(number)]
