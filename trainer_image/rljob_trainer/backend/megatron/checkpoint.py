"""Megatron's distributed checkpoints: model, optimizer, update count and every rank's random state.

Files are written by torch's own checkpoint writer in this process (a thread when in the background).
Megatron's writer forks children and spawns a server process: 18 s for the first save on CPU, and a hang where
the entry module is not guarded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.dict_utils import dict_list_map_inplace
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from megatron.core.dist_checkpointing.serialization import get_default_load_sharded_strategy
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from megatron.core.dist_checkpointing.strategies.fully_parallel import (
    FullyParallelLoadStrategyWrapper,
    FullyParallelSaveStrategyWrapper,
)
from megatron.core.dist_checkpointing.strategies.torch import (
    MCoreSavePlanner,
    TorchDistSaveShardedStrategy,
    _replace_state_dict_keys_with_sharded_keys,
    mcore_to_pyt_state_dict,
)
from torch import distributed as dist

from rljob_api.checkpoint import Checkpoint, OptimizerSharding
from rljob_api.manifest import FileEntry
from rljob_trainer.backend.megatron import cpu
from rljob_trainer.backend.megatron.common import CommonLater
from rljob_trainer.backend.protocol import Written
from rljob_trainer.checkpoint.shards import write_shards

State = dict[str, Any]
Sharding = Literal["dp_reshardable", "fully_reshardable"]
SHARDINGS: dict[OptimizerSharding, Sharding] = {
    OptimizerSharding.DP_RESHARDABLE: "dp_reshardable",
    OptimizerSharding.FULLY_RESHARDABLE: "fully_reshardable",
}


@dataclass(frozen=True)
class CheckpointOptions:
    """Arguments of Megatron's checkpoint functions; the defaults are what Megatron users have by default."""

    fully_parallel_save: bool = True
    """Replicas share the writing; else the first replica writes."""
    fully_parallel_load: bool = True
    """Replicas share the reading and exchange what they read."""
    optimizer_sharding: Sharding = "dp_reshardable"
    """The second gathers the optimizer over replicas, and can be loaded under another layout."""

    @classmethod
    def of(cls, spec: Checkpoint) -> Self:
        """What the spec leaves out is as above."""
        sharding = None if spec.optimizer_sharding is None else SHARDINGS[spec.optimizer_sharding]
        fields = {
            "fully_parallel_save": spec.fully_parallel_save,
            "fully_parallel_load": spec.fully_parallel_load,
            "optimizer_sharding": sharding,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return cls(**given)  # type: ignore[arg-type]  # each has the type of its field

    def to_load(self, directory: Path) -> Self:
        """These, with the optimizer's sharding that a checkpoint was written with: it may have been another."""
        written = dist_checkpointing.load_content_metadata(str(directory))
        return replace(self, optimizer_sharding=written["distrib_optim_sharding_type"])

    @property
    def metadata(self) -> State:
        """What `sharded_state_dict` of model and optimizer must agree on, at save and at load."""
        return {
            "distrib_optim_sharding_type": self.optimizer_sharding,
            "singleton_local_shards": False,
            "chained_optim_avoid_prefix": True,
        }


class InProcessSave(TorchDistSaveShardedStrategy):  # type: ignore[misc]  # megatron-core has no types
    """Megatron's format through torch's writer."""

    written: Written
    """What waits until everything is on disk; there once the save has begun."""

    def __init__(self, group: dist.ProcessGroup, *, background: bool) -> None:
        super().__init__("torch_dist", 1)
        self.group, self.background = group, background

    def async_save(self, sharded_state_dict: State, checkpoint_dir: Path) -> AsyncRequest:
        if self.background:
            dict_list_map_inplace(_copy, sharded_state_dict)
        named, _, _ = _replace_state_dict_keys_with_sharded_keys(
            sharded_state_dict, self.keep_only_main_replica
        )
        state = mcore_to_pyt_state_dict(named, False)
        planner = MCoreSavePlanner(dedup_replicated_tensors=False, flatten_state_dict=False)
        self.written = write_shards(state, checkpoint_dir, planner, self.group, background=self.background)
        return AsyncRequest(None, (), [])


def save(
    state: State, directory: Path, options: CheckpointOptions, group: dist.ProcessGroup, *, background: bool
) -> Written:
    """Collective. Returns what all ranks call to wait; `group` is for the writer's own collectives."""
    strategy = ours = InProcessSave(group, background=background)
    if options.fully_parallel_save:
        strategy = FullyParallelSaveStrategyWrapper(strategy, _replicas())
    common = CommonLater()
    cpu.adapt()
    with cpu.stand_in():
        dist_checkpointing.save(
            state, str(directory), strategy, async_sharded_save=True, content_metadata=options.metadata
        )

    def wait() -> list[FileEntry]:
        written = ours.written()
        common.write(directory, ours)
        return written

    if background:
        return wait
    entries = wait()
    return lambda: entries


def load(template: State, directory: Path, options: CheckpointOptions) -> State:
    """Fill the shape of `template` from a directory that `save` wrote. Collective."""
    strategy = get_default_load_sharded_strategy(str(directory))
    if options.fully_parallel_load:
        strategy = FullyParallelLoadStrategyWrapper(strategy, _replicas())
    cpu.adapt()
    with cpu.stand_in():
        state: State = dist_checkpointing.load(template, str(directory), strategy)
    return state


def _replicas() -> dist.ProcessGroup:
    group: dist.ProcessGroup = parallel_state.get_data_parallel_group(with_context_parallel=True)
    return group


def _copy(value: object) -> object:
    """Detach what will be written from what training goes on changing."""
    if isinstance(value, ShardedTensor) and value.data is not None:
        value.data = value.data.detach().to("cpu", copy=True)
    return value
