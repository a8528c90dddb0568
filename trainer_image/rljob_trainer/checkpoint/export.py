"""A checkpoint as a Hugging Face directory, made by one process without a process group: `rljob checkpoint export`."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from rljob_api.base import Manifest
from rljob_trainer.errors import Mistake

from .directory import STATE
from .save import MODEL_FILES
from .verify import read_manifest, verify

PREFIX = "model."
"""Under which a backend keeps the parameters, by their Hugging Face names."""


def export_checkpoint(checkpoint: Path, target: Path) -> None:
    """Write safetensors, configuration and tokenizer of a whole checkpoint to `target`, which must not exist yet.

    Raises `Mistake` if the checkpoint is broken or of a backend that keeps other names.
    """
    _refuse(checkpoint, target)
    draft = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(checkpoint / MODEL_FILES, draft)
    config = json.loads((draft / "config.json").read_text())
    weights = {name: tensor.to(_dtype(config)) for name, tensor in parameters(checkpoint / STATE).items()}
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)  # the embedding under a second name
    save_torch_state_dict(weights, draft)
    draft.rename(target)


def _refuse(checkpoint: Path, target: Path) -> None:
    if problems := verify(checkpoint):
        raise Mistake(f"{checkpoint} is not whole: {problems[0]}. Export another step.")
    backend = read_manifest(checkpoint).layout.backend
    if backend != "dtensor":
        raise Mistake(f"{checkpoint} was written by backend {backend}; only dtensor's can be exported here.")
    if not (checkpoint / MODEL_FILES / "config.json").exists():
        raise Mistake(f"{checkpoint} has no {MODEL_FILES}/config.json, so nobody knows the model's shape.")
    if target.exists():
        raise Mistake(f"{target} exists already; name a directory that does not.")


def parameters(state: Path) -> dict[str, torch.Tensor]:
    """All parameters of a distributed checkpoint, whole, in memory."""
    metadata = FileSystemReader(state).read_metadata().state_dict_metadata
    tensors = {
        key: torch.empty(entry.size, dtype=entry.properties.dtype)
        for key, entry in metadata.items()
        if key.startswith(PREFIX) and isinstance(entry, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # that is the intent
        load(tensors, checkpoint_id=state, no_dist=True)
    return {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}


def _dtype(config: Manifest) -> torch.dtype:
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype), f"the model's config.json declares dtype {name}"
    return dtype
