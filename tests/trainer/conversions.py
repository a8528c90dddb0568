"""Conversions for tests of what comes after them: made by the ranks of the test itself, once for a model."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist


def converted(model: Path) -> Path:
    """The model in Megatron's format, float32. Collective."""
    from rljob_trainer.convert.write import write_model

    directory = model / "megatron"
    there = [(directory / "metadata.json").exists()]
    dist.broadcast_object_list(there)
    if not there[0]:
        directory.mkdir(exist_ok=True)
        write_model(model, directory, torch.float32)
        dist.barrier()
    return directory
