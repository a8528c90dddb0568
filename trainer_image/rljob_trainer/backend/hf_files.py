"""Writes a Hugging Face directory: whole weights beside the configuration and tokenizer that the model came with.

Both backends do at the end of a job, and `rljob checkpoint export` from a checkpoint.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch import distributed as dist

from rljob_api.base import shortened
from rljob_api.model import CONFIG
from rljob_trainer.checkpoint.durable import room_for, sync_files
from rljob_trainer.checkpoint.files import model_files
from rljob_trainer.distributed import from_first
from rljob_trainer.errors import Mistake

MAX_SHARD_SIZE = "5GB"
MOST_TOLD = 300
"""Characters of what transformers says of a configuration."""
NO_ROOM = (
    "Free some space, enlarge the volume, or write to another one with `rljob checkpoint export --to`; checkpoints are"
    " not touched."
)
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def read_config(source: Path, *, trust_remote_code: bool = False) -> Any:
    """The configuration of the Hugging Face directory `source`. Raises `Mistake` if no model follows from it."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, TypeError, StrictDataclassError) as error:
        told = shortened(" ".join(str(error).split()), MOST_TOLD)
        raise Mistake(f"spec.model.source: {source / CONFIG} does not describe a model: {told}") from error


def write_hf_model(
    weights: Iterator[tuple[str, Tensor]],
    dtype: torch.dtype,
    source: Path,
    directory: Path,
    group: dist.ProcessGroup,
) -> None:
    """Write `weights`, which are of `dtype`, beside the companions in `source`. Collective; all return when it is done.

    All ranks gather, rank 0 writes. Memory there: the whole model once. Raises there what `write_directory` does, and
    `LeaderFailedError` on the others.
    """
    leads = dist.get_rank() == 0
    # Copies: a vocabulary without its fill is a view, and safetensors refuses to write half a storage.
    kept = {name: tensor.to("cpu", copy=True) for name, tensor in weights if leads}
    from_first(lambda: write_directory(kept, _config(source, dtype), _companions(source), directory), group)


def write_directory(weights: dict[str, Tensor], config: str, companions: list[Path], directory: Path) -> None:
    """Write `weights`, the text of config.json and copies of `companions`; all is on the disk then.

    Raises `StorageError`, with what is needed and what is free, if the volume is full, and otherwise `OSError`.
    """
    from huggingface_hub import save_torch_state_dict

    size = sum(tensor.nbytes for tensor in weights.values()) + sum(file.stat().st_size for file in companions)
    with room_for(size, directory.parent, "The exported model", NO_ROOM), _os_errors(directory):
        directory.mkdir(exist_ok=True)
        # Its logger has the name of its file, so that no level of its package's reaches it.
        logging.getLogger(inspect.getfile(save_torch_state_dict)).setLevel(logging.WARNING)
        save_torch_state_dict(weights, directory, max_shard_size=MAX_SHARD_SIZE)
        for file in companions:
            shutil.copyfile(file, directory / file.name)
        (directory / CONFIG).write_text(config)
        _let_read(directory)
        sync_files(directory)


def _let_read(directory: Path) -> None:
    """Give the weights, which safetensors leaves to their owner alone, the rights of the other files."""
    for file in directory.glob("*.safetensors"):
        with suppress(PermissionError):  # some volumes keep rights of their own
            file.chmod((directory / CONFIG).stat().st_mode)


@contextmanager
def _os_errors(directory: Path) -> Iterator[None]:
    """What the volume refuses is an `OSError`; safetensors tells it as an error of its own."""
    try:
        yield
    except SafetensorError as error:
        if (told := _OS_ERROR.search(str(error))) is None:
            raise
        number = int(told[1])
        raise OSError(number, os.strerror(number), str(directory)) from error


def _companions(source: Path) -> list[Path]:
    return [path for path in model_files(source) if path.name != CONFIG]


def _config(source: Path, dtype: torch.dtype) -> str:
    """The same configuration, saying the dtype that is really in the files: else a loader would round again."""
    config = json.loads((source / CONFIG).read_text())
    config.pop("torch_dtype", None)
    config["dtype"] = str(dtype).removeprefix("torch.")
    return json.dumps(config, indent=2, sort_keys=True) + "\n"
