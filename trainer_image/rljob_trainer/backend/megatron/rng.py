"""This rank's random state: the streams of any backend, and those that Megatron keeps itself."""

from __future__ import annotations

from dataclasses import dataclass

from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.tensor_parallel.random import (
    convert_cuda_rng_state,
    get_cuda_rng_tracker,
    is_graph_safe_cuda_rng_tracker,
)
from torch import Tensor

from rljob_trainer.backend import rng
from rljob_trainer.backend.megatron.parallel import Place


@dataclass(frozen=True)
class MegatronRng:
    """A copy of all streams at one moment."""

    streams: rng.RngState
    tracker: dict[str, Tensor]
    """Megatron's own, by name."""


def read_rng() -> MegatronRng:
    tracker = {name: state.clone() for name, state in get_cuda_rng_tracker().get_states().items()}
    return MegatronRng(rng.read_rng(), tracker)


def write_rng(state: MegatronRng) -> None:
    """Go on drawing from where `state` was read."""
    rng.write_rng(state.streams)
    to_graphable = is_graph_safe_cuda_rng_tracker(get_cuda_rng_tracker())
    get_cuda_rng_tracker().set_states(
        {name: convert_cuda_rng_state(one, to_graphable=to_graphable) for name, one in state.tracker.items()}
    )


def sharded_rng(state: object, place: Place) -> ShardedObject:
    """One object per rank.

    Upstream's (stage, tensor) would give every replica replica 0's stream back, though replicas that get
    unequal micro-batches have drawn differently.
    """
    shape = (place.stages, place.tensors, place.replicas)
    return ShardedObject(
        "rng_state", [state], shape, (place.stage, place.tensor, place.replica), replica_id=0
    )
