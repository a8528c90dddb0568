"""Hugging Face names and tensors ↔ Megatron names and shards: one table, two pure functions.

`split` and `join` are each other's inverse, bit for bit. The reader of a Hugging Face directory and the
export for vLLM both walk the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

import torch
from torch import Tensor

from rljob_trainer.backend.megatron.architecture import Architecture, ExpertNames


class Cut(StrEnum):
    """How a matrix (rows are output features) is shared by tensor ranks."""

    WHOLE = "whole"
    """Every rank holds all of it."""
    VOCAB = "vocab"
    """Rows, filled up with zeros to a multiple of the ranks."""
    COLUMNS = "columns"
    """Input features."""
    QKV = "qkv"
    """Query, key and value rows interleaved by key-value group, then cut by rows."""
    GATE_UP = "gate-up"
    """Each rank holds its rows of the gate above its rows of the up projection."""


@dataclass(frozen=True)
class Entry:
    """One Megatron parameter and the Hugging Face tensors that it is made of.

    In the table `{i}` is the layer and `{e}` the expert; Megatron counts both from the first that a rank holds.
    """

    megatron: str
    hf: tuple[str, ...]
    cut: Cut
    of_expert: bool = False
    """Cut by expert-tensor ranks instead of tensor ranks, and held by one share of expert ranks."""

    def of_layer(self, layer: int, first: int) -> Entry:
        """The entry of one layer, on a stage that holds those from `first` on."""
        return self._numbered("{i}", layer, first)

    def of_number(self, expert: int, first: int) -> Entry:
        """The entry of one expert, on ranks that hold those from `first` on."""
        return self._numbered("{e}", expert, first)

    def _numbered(self, mark: str, number: int, first: int) -> Entry:
        hf = tuple(name.replace(mark, str(number)) for name in self.hf)
        return replace(self, megatron=self.megatron.replace(mark, str(number - first)), hf=hf)


_MEGATRON, _HF = "decoder.layers.{i}.", "model.layers.{i}."


def _layer(megatron: str, hf: tuple[str, ...], cut: Cut, *, of_expert: bool = False) -> Entry:
    return Entry(_MEGATRON + megatron, tuple(_HF + name for name in hf), cut, of_expert)


EMBEDDING = Entry("embedding.word_embeddings.weight", ("model.embed_tokens.weight",), Cut.VOCAB)
NORM = Entry("decoder.final_layernorm.weight", ("model.norm.weight",), Cut.WHOLE)
HEAD = Entry("output_layer.weight", ("lm_head.weight",), Cut.VOCAB)
TIED_HEAD = Entry("output_layer.weight", EMBEDDING.hf, Cut.VOCAB)

_PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
ATTENTION = (
    _layer("input_layernorm.weight", ("input_layernorm.weight",), Cut.WHOLE),
    _layer("self_attention.linear_qkv.weight", tuple(f"{p}.weight" for p in _PROJECTIONS), Cut.QKV),
    _layer("self_attention.linear_proj.weight", ("self_attn.o_proj.weight",), Cut.COLUMNS),
    _layer("pre_mlp_layernorm.weight", ("post_attention_layernorm.weight",), Cut.WHOLE),
)
QKV_BIAS = (_layer("self_attention.linear_qkv.bias", tuple(f"{p}.bias" for p in _PROJECTIONS), Cut.QKV),)
QK_NORM = (
    _layer("self_attention.q_layernorm.weight", ("self_attn.q_norm.weight",), Cut.WHOLE),
    _layer("self_attention.k_layernorm.weight", ("self_attn.k_norm.weight",), Cut.WHOLE),
)
MLP = (
    _layer("mlp.linear_fc1.weight", ("mlp.gate_proj.weight", "mlp.up_proj.weight"), Cut.GATE_UP),
    _layer("mlp.linear_fc2.weight", ("mlp.down_proj.weight",), Cut.COLUMNS),
)


def router(names: ExpertNames) -> Entry:
    return _layer("mlp.router.weight", (f"{names.router}.weight",), Cut.WHOLE)


def expert(names: ExpertNames) -> tuple[Entry, ...]:
    """The matrices of one expert."""
    into, out = "mlp.experts.local_experts.{e}.linear_fc1", "mlp.experts.local_experts.{e}.linear_fc2"
    gate_up = (f"{names.gate}.weight", f"{names.up}.weight")
    return (
        _layer(f"{into}.weight", gate_up, Cut.GATE_UP, of_expert=True),
        _layer(f"{out}.weight", (f"{names.down}.weight",), Cut.COLUMNS, of_expert=True),
    )


_FUSED = {
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "mlp.linear_fc1.layer_norm_weight": "pre_mlp_layernorm.weight",
}
"""Norms that Transformer Engine keeps in the matrix behind them, by what the table calls them."""


def name_in_table(parameter: str) -> str:
    """What the table calls a model's parameter, of whichever modules the model was built."""
    for fused, plain in _FUSED.items():
        parameter = parameter.replace(fused, plain)
    return parameter


@dataclass(frozen=True)
class Placed:
    """An entry, the pipeline stage whose ranks hold it, and which expert ranks there."""

    entry: Entry
    stage: int
    expert: int | None = None
    """Which share of the experts it belongs to; None: all ranks of the stage hold it."""
    chunk: int = 0
    """Which of the stage's runs of layers it is in."""


def placed_entries(
    architecture: Architecture, pipeline: int = 1, experts: int = 1, chunks: int = 1
) -> list[Placed]:
    """All parameters of a model in a fixed order; the second copy of a tied embedding is left out.

    Runs of layers are dealt out to stages in turn, one to each, as often as a stage has chunks.
    """
    share, last = architecture.layers // (pipeline * chunks), pipeline - 1
    layer = [*_whole_layer(architecture), *_shared_experts(architecture, experts)]
    layers = [
        replace(
            placed,
            entry=placed.entry.of_layer(i, first=i // share * share),
            stage=i // share % pipeline,
            chunk=i // share // pipeline,
        )
        for i in range(architecture.layers)
        for placed in layer
    ]
    head = [] if architecture.tied else [Placed(HEAD, last, chunk=chunks - 1)]
    return [Placed(EMBEDDING, 0), *layers, Placed(NORM, last, chunk=chunks - 1), *head]


def _whole_layer(architecture: Architecture) -> list[Placed]:
    """What all ranks of a layer's stage hold."""
    traits = architecture.traits
    bias, norm = QKV_BIAS if traits.qkv_bias else (), QK_NORM if traits.qk_norm else ()
    mlp = MLP if traits.experts is None else (router(traits.experts),)
    return [Placed(entry, stage=0) for entry in (*ATTENTION, *bias, *norm, *mlp)]


def _shared_experts(architecture: Architecture, ranks: int) -> list[Placed]:
    """The experts of a layer, an equal run of them on each of `ranks`."""
    names, experts = architecture.traits.experts, architecture.experts
    if names is None or experts is None:
        return []
    share = experts.count // ranks
    return [
        Placed(entry.of_number(e, first=e // share * share), stage=0, expert=e // share)
        for e in range(experts.count)
        for entry in expert(names)
    ]


def split(cut: Cut, tensors: list[Tensor], architecture: Architecture, ranks: int, rank: int) -> Tensor:
    """The shard of `rank` out of `ranks`, from whole Hugging Face tensors in the order of the entry."""
    match cut:
        case Cut.WHOLE:
            return tensors[0]
        case Cut.VOCAB:
            missing = architecture.padded_vocab(ranks) - architecture.vocab
            rows = torch.cat([tensors[0], tensors[0].new_zeros(missing, tensors[0].shape[1])])
            return rows.chunk(ranks)[rank]
        case Cut.COLUMNS:
            return tensors[0].chunk(ranks, dim=1)[rank]
        case Cut.QKV:
            groups = [t.view(architecture.kv_heads, -1, *t.shape[1:]) for t in tensors]
            return torch.cat(groups, dim=1).flatten(0, 1).chunk(ranks)[rank]
        case Cut.GATE_UP:
            return torch.cat([t.chunk(ranks)[rank] for t in tensors])
        case _:
            assert_never(cut)


def join(cut: Cut, shards: list[Tensor], architecture: Architecture) -> list[Tensor]:
    """Whole Hugging Face tensors from the shards of all ranks that share them, in order."""
    match cut:
        case Cut.WHOLE:
            return [shards[0].clone()]  # a view would keep all that it was gathered with
        case Cut.VOCAB:
            return [torch.cat(shards)[: architecture.vocab]]
        case Cut.COLUMNS:
            return [torch.cat(shards, dim=1)]
        case Cut.QKV:
            whole = torch.cat(shards)
            groups = whole.view(architecture.kv_heads, -1, *whole.shape[1:])
            d = architecture.head_dim
            sizes = [architecture.heads // architecture.kv_heads * d, d, d]
            return [part.flatten(0, 1) for part in torch.split(groups, sizes, dim=1)]
        case Cut.GATE_UP:
            halves = [shard.chunk(2) for shard in shards]
            return [torch.cat([half[n] for half in halves]) for n in (0, 1)]
        case _:
            assert_never(cut)
