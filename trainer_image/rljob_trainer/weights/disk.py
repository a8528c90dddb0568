"""Weights as files on the shared volume: the carrier that needs nothing but the volume.

Rank 0 writes `<storage>/weights/<version>/part-00000.safetensors …`; each vLLM worker reads them in order. Only the
newest version is kept; what a newer attempt wrote is never touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from rljob_api.base import Manifest
from rljob_trainer.checkpoint.directory import Storage
from rljob_trainer.checkpoint.durable import storage_errors
from rljob_trainer.weights.packing import BUCKET_BYTES, NamedTensors, groups

FOLDER = "weights"


def write_parts(storage: Storage, version: str, weights: NamedTensors, limit: int = BUCKET_BYTES) -> Manifest:
    """Write all weights, instead of those that this attempt and older ones wrote; returns where they are, as
    `vllm_engine.Source` takes it.

    Raises `FencedError` if a newer attempt has taken the volume, `StorageError` if it is full, `Mistake` if it cannot
    be written to.
    """
    folder = storage.root / FOLDER
    with storage_errors(storage.root, "Writing the weights for the rollout servers"):
        storage.check_fence()
        _remove(folder, storage.mine.attempt)
        (folder / version).mkdir(parents=True)
        number = 0
        for number, group in enumerate(groups(weights, limit), start=1):
            _write(_part(folder / version, number - 1), group)
    return {"directory": str(Path(FOLDER) / version), "parts": number}


def read_parts(directory: Path, parts: int, device: torch.device) -> Iterator[list[tuple[str, Tensor]]]:
    """The tensors of each of so many parts, on `device`. Raises `FileNotFoundError` if one is not there."""
    from safetensors.torch import load_file

    for number in range(parts):
        yield list(load_file(_part(directory, number), device=str(device)).items())


def _part(directory: Path, number: int) -> Path:
    return directory / f"part-{number:05}.safetensors"


def _write(path: Path, group: list[tuple[str, Tensor]]) -> None:
    from safetensors.torch import save

    # By hand, for an `OSError`: the library tells a full volume as an error of its own.
    path.write_bytes(save({name: tensor.detach().contiguous().cpu() for name, tensor in group}))


def _remove(folder: Path, attempt: int) -> None:
    """What `attempt` and those before it wrote."""
    for path in folder.iterdir() if folder.exists() else ():
        number = path.name.partition(".")[0]
        if number.isdecimal() and int(number) <= attempt:
            shutil.rmtree(path)
