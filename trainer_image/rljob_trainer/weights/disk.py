"""Weights as files on the shared volume: the carrier that needs nothing but the volume.

Rank 0 writes `<storage>/weights/<version>/part-00000.safetensors …`; each vLLM worker reads them in order. Only the
newest version is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from rljob_trainer.weights.packing import BUCKET_BYTES, NamedTensors, groups

FOLDER = "weights"


def write_parts(storage: Path, version: str, weights: NamedTensors, limit: int = BUCKET_BYTES) -> str:
    """Write all weights and remove those of other versions; returns the directory, relative to `storage`."""
    from safetensors.torch import save_file

    shutil.rmtree(storage / FOLDER, ignore_errors=True)
    directory = storage / FOLDER / version
    directory.mkdir(parents=True)
    for number, group in enumerate(groups(weights, limit)):
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in group}
        save_file(tensors, directory / f"part-{number:05}.safetensors")
    return str(directory.relative_to(storage))


def read_parts(directory: Path, device: torch.device) -> Iterator[list[tuple[str, Tensor]]]:
    """The tensors of each part, on `device`."""
    from safetensors.torch import load_file

    for part in sorted(directory.glob("part-*.safetensors")):
        yield list(load_file(part, device=str(device)).items())
