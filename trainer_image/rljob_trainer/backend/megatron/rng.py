"""This rank's random state: the streams of any backend, and those that Megatron keeps itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.tensor_parallel.random import (
    convert_cuda_rng_state,
    get_cuda_rng_tracker,
    is_graph_safe_cuda_rng_tracker,
)
from torch import Tensor

from rljob_api.manifest import RngSharding
from rljob_trainer.backend import rng
from rljob_trainer.backend.megatron.parallel import Place


@dataclass(frozen=True)
class MegatronRng:
    """A copy of all streams at one moment."""

    streams: rng.RngState
    tracker: dict[str, Tensor]
    """Megatron's own, by name; as tensors, which any tracker's states can be made from."""


def read_rng() -> MegatronRng:
    states = get_cuda_rng_tracker().get_states()
    tracker = {name: convert_cuda_rng_state(one, to_graphable=False).clone() for name, one in states.items()}
    return MegatronRng(rng.read_rng(), tracker)


def write_rng(state: MegatronRng) -> None:
    """Go on drawing from where `state` was read; the tracker may be of the other kind (safe for CUDA graphs) now."""
    rng.write_rng(state.streams)
    tracker = get_cuda_rng_tracker()
    graphable = is_graph_safe_cuda_rng_tracker(tracker)
    tracker.set_states(
        {name: convert_cuda_rng_state(one, to_graphable=graphable) for name, one in state.tracker.items()}
    )


def sharded_rng(state: object, place: Place, sharding: RngSharding) -> ShardedObject:
    """What this rank writes of its random state, or reads of what another wrote (R3).

    `PP_TP` is upstream's rule without expert parallelism: replica 0 writes, and all replicas get its streams back.
    It holds only while they draw alike; else every rank is a shard of its own.
    """
    replica, replicas = place.replica * place.contexts + place.context, place.replicas * place.contexts
    shape, offset = (place.stages, place.tensors), (place.stage, place.tensor)
    match sharding:
        case RngSharding.PP_TP:
            return _shard(state, shape, offset, replica)
        case RngSharding.PP_TP_DP:
            return _shard(state, (*shape, replicas), (*offset, replica), 0)
        case RngSharding.RANK:
            raise ValueError("Megatron's random states are sharded by stage and tensor rank")
        case _:
            assert_never(sharding)


def _shard(state: object, shape: tuple[int, ...], offset: tuple[int, ...], replica: int) -> ShardedObject:
    return ShardedObject("rng_state", [state], shape, offset, replica_id=replica)
