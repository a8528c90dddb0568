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
from megatron.core.dist_checkpointing.strategies.base import (
    SaveShardedStrategy,
    StrategyAction,
    register_default_strategy,
)
from megatron.core.dist_checkpointing.strategies.common import COMMON_STATE_FNAME, TorchCommonSaveStrategy
from torch import distributed as dist


class CommonLater(TorchCommonSaveStrategy):  # type: ignore[misc]  # megatron-core has no types
    """Takes what the next save of Megatron gives it, as bytes: training may go on and change it."""

    def __init__(self) -> None:
        super().__init__("torch", 1)
        register_default_strategy(StrategyAction.SAVE_COMMON, self.backend, self.version, self)
        self._content = BytesIO()

    def save_common(self, common_state_dict: dict[str, Any], checkpoint_dir: Path | str) -> None:
        torch.save(common_state_dict, self._content)

    def write(self, directory: Path, sharded: SaveShardedStrategy) -> None:
        """On rank 0, when the others wait for nothing; `sharded` wrote the rest. Raises `OSError`."""
        if dist.get_rank() == 0:
            (directory / COMMON_STATE_FNAME).write_bytes(self._content.getvalue())
            save_config(CheckpointingConfig(sharded.backend, sharded.version), str(directory))
