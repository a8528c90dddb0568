"""What is imported only if there is something to convert: torch and Megatron."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from rljob_api.manifest import FileEntry
from rljob_api.parallelism import Parallelism
from rljob_trainer.backend.megatron.architecture import read_architecture
from rljob_trainer.backend.megatron.fit import refuse_uneven
from rljob_trainer.backend.megatron.mapping import placed_entries
from rljob_trainer.checkpoint.durable import storage_errors
from rljob_trainer.convert.hf_source import HfSource
from rljob_trainer.convert.plan import parts
from rljob_trainer.convert.world import Work
from rljob_trainer.convert.write import Tell, write_model


def refuse_unfit(model: Path, parallelism: Parallelism) -> None:
    """Raises `Mistake` for a layout that cannot train the model, which a conversion would only delay to say."""
    refuse_uneven(read_architecture(model), parallelism)


def converted_bytes(model: Path, dtype: str) -> int:
    """Of all parameters. Raises `Mistake` for a model that cannot be converted; reads no tensor."""
    architecture, weights = read_architecture(model), HfSource(model)
    weights.refuse_without(name for placed in placed_entries(architecture, 1) for name in placed.entry.hf)
    return sum(part.bytes for part in parts(architecture, weights.shapes, getattr(torch, dtype)))


def rank_work(model: Path, draft: Path, dtype: str) -> Work:
    """What a rank of the conversion does. What Megatron gathers from all ranks is left out: see `write_model`."""
    return partial(_convert, model, draft, getattr(torch, dtype))


def _convert(model: Path, draft: Path, dtype: torch.dtype, tell: Tell) -> list[FileEntry]:
    with storage_errors(draft.parent, "The conversion"):
        return write_model(
            model, draft, dtype, fully_parallel_save=False, validate_access_integrity=False, tell=tell
        )
