"""A checkpoint as a Hugging Face directory, made by one process without a process group: `rljob checkpoint export`."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from rljob_api.base import Manifest
from rljob_api.model import CONFIG
from rljob_api.parallelism import BackendName
from rljob_trainer.backend.hf_files import write_directory
from rljob_trainer.errors import Mistake

from .directory import STATE
from .durable import storage_errors, sync_directory
from .files import MODEL_FILES
from .verify import read_manifest, verify

MODEL = "model."
"""Under which the dtensor backend keeps the parameters, by their Hugging Face names."""


def export_checkpoint(checkpoint: Path, target: Path) -> None:
    """Write safetensors, configuration and tokenizer of a whole checkpoint to `target`, which must not exist yet.

    Whole or not at all. Raises `Mistake` if the checkpoint is broken or `target` cannot be written, and `StorageError`
    if the volume there is full or failing.
    """
    _refuse(checkpoint, target)
    model = checkpoint / MODEL_FILES
    text = (model / CONFIG).read_text()
    weights = _weights(checkpoint, json.loads(text))
    companions = [file for file in sorted(model.iterdir()) if file.name != CONFIG]
    draft = target.with_name(f".{target.name}.tmp")
    with storage_errors(target.parent, "Exporting the model"):
        draft.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        try:
            write_directory(weights, text, companions, draft)
            draft.rename(target)
            sync_directory(target.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _weights(checkpoint: Path, config: Manifest) -> dict[str, torch.Tensor]:
    """By their Hugging Face names, in the type that the model came in."""
    found = _hf_weights(checkpoint, checkpoint / MODEL_FILES)
    # Copies: safetensors refuses to write a part of what lies in memory.
    weights = {name: tensor.to(_dtype(config), copy=True) for name, tensor in found}
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)  # the embedding under a second name
    return weights


def _refuse(checkpoint: Path, target: Path) -> None:
    if problems := verify(checkpoint):
        raise Mistake(f"{checkpoint} is not whole: {problems[0]}. Export another step.")
    if not (checkpoint / MODEL_FILES / CONFIG).exists():
        raise Mistake(f"{checkpoint} has no {MODEL_FILES}/{CONFIG}, so nobody knows the model's shape.")
    if target.exists():
        raise Mistake(f"{target} exists already; name a directory that does not.")


def _hf_weights(checkpoint: Path, model: Path) -> Iterator[tuple[str, torch.Tensor]]:
    match BackendName(read_manifest(checkpoint).layout.backend):
        case BackendName.DTENSOR:
            saved = tensors(checkpoint / STATE, lambda name: name.startswith(MODEL))
            yield from ((name.removeprefix(MODEL), tensor) for name, tensor in saved.items())
        case BackendName.MEGATRON:
            from rljob_trainer.backend.megatron.architecture import read_architecture
            from rljob_trainer.backend.megatron.saved import OPTIMIZER, hf_weights

            saved = tensors(checkpoint / STATE, lambda name: not name.startswith(OPTIMIZER))
            yield from hf_weights(saved, read_architecture(model))


def tensors(state: Path, wanted: Callable[[str], bool]) -> dict[str, torch.Tensor]:
    """The tensors of a distributed checkpoint whose names are `wanted`, whole, in memory."""
    metadata = FileSystemReader(state).read_metadata().state_dict_metadata
    found = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.items()
        if wanted(name) and isinstance(entry, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # that is the intent
        load(found, checkpoint_id=state, no_dist=True)
    return found


def _dtype(config: Manifest) -> torch.dtype:
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype), f"the model's config.json declares dtype {name}"
    return dtype
