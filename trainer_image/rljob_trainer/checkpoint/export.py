"""A checkpoint as a Hugging Face directory, made by one process without a process group: `rljob checkpoint export`."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from rljob_api.base import Manifest
from rljob_api.parallelism import BackendName
from rljob_trainer.errors import Mistake

from .directory import STATE
from .files import MODEL_FILES
from .verify import read_manifest, verify

MODEL = "model."
"""Under which the dtensor backend keeps the parameters, by their Hugging Face names."""


def export_checkpoint(checkpoint: Path, target: Path) -> None:
    """Write safetensors, configuration and tokenizer of a whole checkpoint to `target`, which must not exist yet.

    Raises `Mistake` if the checkpoint is broken.
    """
    _refuse(checkpoint, target)
    draft = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(checkpoint / MODEL_FILES, draft)
    config = json.loads((draft / "config.json").read_text())
    # Copies: safetensors refuses to write a part of what lies in memory.
    weights = {name: tensor.to(_dtype(config), copy=True) for name, tensor in _hf_weights(checkpoint, draft)}
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)  # the embedding under a second name
    save_torch_state_dict(weights, draft)
    draft.rename(target)


def _refuse(checkpoint: Path, target: Path) -> None:
    if problems := verify(checkpoint):
        raise Mistake(f"{checkpoint} is not whole: {problems[0]}. Export another step.")
    if not (checkpoint / MODEL_FILES / "config.json").exists():
        raise Mistake(f"{checkpoint} has no {MODEL_FILES}/config.json, so nobody knows the model's shape.")
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
