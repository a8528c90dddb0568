"""Writes a Hugging Face directory: whole weights beside the configuration and tokenizer that the model came with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

WEIGHT_SUFFIXES = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pth",
    ".gguf",
)
MAX_SHARD_SIZE = "5GB"
CONFIG = "config.json"


def write_hf_model(
    weights: Iterator[tuple[str, Tensor]],
    dtype: torch.dtype,
    source: Path,
    directory: Path,
    group: dist.ProcessGroup,
) -> None:
    """Write `weights`, which are of `dtype`, beside the companions in `source`. Collective; all return when it is done.

    All ranks gather, rank 0 writes. Memory there: the whole model once.
    """
    from huggingface_hub import save_torch_state_dict

    leads = dist.get_rank() == 0
    # Copies: a vocabulary without its fill is a view, and safetensors refuses to write half a storage.
    kept = {name: tensor.to("cpu", copy=True) for name, tensor in weights if leads}
    if leads:
        directory.mkdir(parents=True, exist_ok=True)
        save_torch_state_dict(kept, directory, max_shard_size=MAX_SHARD_SIZE)
        _copy_companions(source, directory)
        _write_config(source, directory, dtype)
    dist.barrier(group)


def _copy_companions(source: Path, directory: Path) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name != CONFIG and not file.name.endswith(WEIGHT_SUFFIXES):
            shutil.copyfile(file, directory / file.name)


def _write_config(source: Path, directory: Path, dtype: torch.dtype) -> None:
    """The same configuration, saying the dtype that is really in the files: else a loader would round again."""
    config = json.loads((source / CONFIG).read_text())
    config.pop("torch_dtype", None)
    config["dtype"] = str(dtype).removeprefix("torch.")
    (directory / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
