"""Where this rank stands: tensor, pipeline and data parallel coordinates, and its random streams."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
from torch import distributed as dist

from rljob_api.manifest import RngSharding
from rljob_api.parallelism import Parallelism
from rljob_trainer.backend.megatron import cpu
from rljob_trainer.backend.megatron.mapping import Entry, Placed


@dataclass(frozen=True)
class Place:
    """This rank's coordinate and the size of each dimension."""

    tensor: int
    tensors: int
    stage: int
    stages: int
    replica: int
    replicas: int
    """Ranks that see different rows of the batch; context ranks share rows."""
    context: int = 0
    contexts: int = 1
    expert: int = 0
    """Which of the `experts` shares of a layer's experts this rank holds."""
    experts: int = 1
    expert_tensor: int = 0
    expert_tensors: int = 1
    """Ranks that share the matrices of an expert; attention is shared by `tensors`."""
    chunks: int = 1
    """Virtual stages on each stage."""
    sequence: bool = False
    """Tensor ranks share positions where they do not share matrices."""

    @property
    def is_last_stage(self) -> bool:
        return self.stage == self.stages - 1

    def share_of(self, entry: Entry) -> tuple[int, int]:
        """How many ranks share a parameter's matrix, and which of them this one is."""
        if entry.of_expert:
            return self.expert_tensors, self.expert_tensor
        return self.tensors, self.tensor

    def holds(self, placed: Placed) -> bool:
        """Whether this rank holds the parameter, or a shard of it."""
        return placed.stage == self.stage and placed.expert in (None, self.expert)


def take_place(parallelism: Parallelism, timeout_minutes: int | None) -> Place:
    """Make Megatron's process groups out of the default group. Collective."""
    cpu.adapt()
    timeout = {} if timeout_minutes is None else {"distributed_timeout_minutes": timeout_minutes}
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=parallelism.tensor,
        pipeline_model_parallel_size=parallelism.pipeline,
        virtual_pipeline_model_parallel_size=parallelism.virtual_pipeline
        if parallelism.virtual_pipeline > 1
        else None,
        context_parallel_size=parallelism.context,
        expert_model_parallel_size=parallelism.expert,
        expert_tensor_parallel_size=parallelism.expert_tensor,
        **timeout,
    )
    return Place(
        tensor=parallel_state.get_tensor_model_parallel_rank(),
        tensors=parallelism.tensor,
        stage=parallel_state.get_pipeline_model_parallel_rank(),
        stages=parallelism.pipeline,
        replica=parallel_state.get_data_parallel_rank(),
        replicas=dist.get_world_size() // parallelism.replica_ranks,
        context=parallel_state.get_context_parallel_rank(),
        contexts=parallelism.context,
        expert=parallel_state.get_expert_model_parallel_rank(),
        experts=parallelism.expert,
        expert_tensor=parallel_state.get_expert_tensor_parallel_rank(),
        expert_tensors=parallelism.expert_tensor,
        chunks=parallelism.virtual_pipeline,
        sequence=parallelism.sequence,
    )


def seed_rank(seed: int, place: Place, sharding: RngSharding) -> None:
    """Give each stage streams of its own, and each replica too where replicas draw unequally.

    Megatron adds the tensor rank itself where ranks must draw differently. Its own training script seeds all
    replicas alike; with dropout they then drop the same attention weights, which dropout does not mean.
    """
    own = seed + 100 * place.stage
    if sharding is not RngSharding.PP_TP:
        own += 10_000 * (place.replica * place.contexts + place.context)
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)
    model_parallel_cuda_manual_seed(own)
