"""This rank's random state: Python, NumPy, torch, CUDA, and the streams that Megatron keeps itself."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.tensor_parallel.random import (
    convert_cuda_rng_state,
    get_cuda_rng_tracker,
    is_graph_safe_cuda_rng_tracker,
)

from rljob_trainer.backend.megatron.parallel import Place

RngState = dict[str, Any]


def read_rng() -> RngState:
    """A copy of all streams now."""
    on_gpu = torch.cuda.is_available()
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if on_gpu else None,
        "tracker": {name: state.clone() for name, state in get_cuda_rng_tracker().get_states().items()},
    }


def write_rng(state: RngState) -> None:
    """Go on drawing from where `state` was read."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    tracker = state["tracker"]
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
        to_graphable = is_graph_safe_cuda_rng_tracker(get_cuda_rng_tracker())
        tracker = {
            name: convert_cuda_rng_state(one, to_graphable=to_graphable) for name, one in tracker.items()
        }
    get_cuda_rng_tracker().set_states(tracker)


def sharded_rng(state: object, place: Place) -> ShardedObject:
    """One object per rank.

    Upstream's (stage, tensor) would give every replica replica 0's stream back, though replicas that get
    unequal micro-batches have drawn differently.
    """
    shape = (place.stages, place.tensors, place.replicas)
    return ShardedObject(
        "rng_state", [state], shape, (place.stage, place.tensor, place.replica), replica_id=0
    )
