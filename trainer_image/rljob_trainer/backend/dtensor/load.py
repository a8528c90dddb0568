"""Fills a sharded model from safetensors files: each rank makes and reads its own shards, never the whole model.

A model is first built on the meta device, where tensors have shapes and no memory; then it is cut; then this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.distributed_c10d import ProcessGroup

from rljob_trainer.errors import Mistake


def fill(model: nn.Module, hf: Any, source: Path, device: torch.device, group: ProcessGroup) -> None:
    """Give `model`, which holds the transformers model `hf`, memory and the weights in `source`. Collective.

    Weights of any type on disk become what the model's are. `group` is gloo. Raises `Mistake` on all ranks for a
    directory without safetensors, or with a tensor missing or of another shape.
    """
    model.to_empty(device=device)  # a tied head stays tied
    _make_buffers(hf, device)
    reader = HuggingFaceStorageReader(str(source))
    parameters = dict(hf.named_parameters())
    _refuse_misfits(parameters, reader.read_metadata(), source)
    load(parameters, storage_reader=reader, process_group=group)


def _make_buffers(hf: Any, device: torch.device) -> None:
    """Rotary frequencies follow from the configuration and are in no file."""
    hf.model.rotary_emb = type(hf.model.rotary_emb)(hf.config).to(device)
    others = [name for name, _ in hf.named_buffers() if not name.startswith("model.rotary_emb.")]
    if others:
        raise Mistake(
            f"spec.model.source: the model's code keeps buffers that the dtensor backend does not know how to fill:"
            f" {', '.join(others)}. Choose a model that transformers itself implements."
        )


def _refuse_misfits(parameters: dict[str, nn.Parameter], found: Metadata, source: Path) -> None:
    stored = found.state_dict_metadata
    if not stored:
        raise Mistake(
            f"spec.model.source: no *.safetensors file in {source}. Convert the model: load it in transformers and"
            " save_pretrained() it."
        )
    for name, parameter in parameters.items():
        entry = stored.get(name)
        if not isinstance(entry, TensorStorageMetadata):
            raise Mistake(
                f"spec.model.source: no safetensors file in {source} holds the tensor {name!r}, which config.json"
                " asks for. Is the download complete?"
            )
        if entry.size != parameter.shape:
            raise Mistake(
                f"spec.model.source: {name} has shape {tuple(entry.size)} in {source}, where config.json says"
                f" {tuple(parameter.shape)}. Is it the configuration of another model?"
            )
