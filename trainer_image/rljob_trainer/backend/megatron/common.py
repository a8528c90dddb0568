"""What is the same on all ranks of a checkpoint, and Megatron's note on the format: two small files of rank 0.

Megatron writes the first before collectives that all ranks enter, and a barrier follows the second: what a full volume
refuses rank 0 would leave the others waiting there. Here both are written once nobody waits for anybody.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from megatron.core.dist_checkpointing.core import CheckpointingConfig, save_config
from megatron.core.dist_checkpointing.strategies.base import StrategyAction, register_default_strategy
from megatron.core.dist_checkpointing.strategies.common import COMMON_STATE_FNAME, TorchCommonSaveStrategy
from torch import distributed as dist

FORMAT = CheckpointingConfig("torch_dist", 1)


class CommonLater(TorchCommonSaveStrategy):  # type: ignore[misc]  # megatron-core has no types
    """Takes what Megatron gives it, as bytes: training may go on and change it."""

    def __init__(self) -> None:
        super().__init__("torch", 1)
        self._content = BytesIO()

    def save_common(self, common_state_dict: dict[str, Any], checkpoint_dir: Path | str) -> None:
        self._content = BytesIO()
        torch.save(common_state_dict, self._content)

    def taken(self) -> bytes:
        """Of the last save."""
        return self._content.getvalue()


_LATER = CommonLater()


def adapt() -> None:
    """From here on Megatron's `save` gives it to us."""
    register_default_strategy(StrategyAction.SAVE_COMMON, "torch", 1, _LATER)


def taken() -> bytes:
    """What the save that has just begun gave. Not collective."""
    return _LATER.taken()


def write(content: bytes, directory: Path) -> None:
    """On rank 0, when the others wait for nothing. Raises `OSError`."""
    if dist.get_rank() == 0:
        (directory / COMMON_STATE_FNAME).write_bytes(content)
        save_config(FORMAT, str(directory))
