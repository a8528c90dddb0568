"""How the model and its random states are spread, from the spec alone: known before a backend is built.

`train` asks it to decide what of a checkpoint can be restored, a backend to say so in the checkpoints that it writes.
"""

from __future__ import annotations

from typing import assert_never

from rljob_api.checkpoint import OptimizerSharding
from rljob_api.job import JobSpec
from rljob_api.manifest import Layout, RngSharding
from rljob_api.parallelism import BackendName, Megatron


def layout_of(spec: JobSpec) -> Layout:
    """The layout that the spec asks for."""
    cut = spec.parallelism
    return Layout(
        backend=spec.chosen_backend,
        world=spec.trainer.world_size,
        tensor=cut.tensor,
        pipeline=cut.pipeline,
        virtual_pipeline=cut.virtual_pipeline,
        context=cut.context,
        expert=cut.expert,
        expert_tensor=cut.expert_tensor,
        data=spec.data_parallel,
        rng_sharding=rng_sharding(spec),
        optimizer_sharding=optimizer_sharding(spec),
        bucket_size=bucket_size(spec),
    )


def rng_sharding(spec: JobSpec) -> RngSharding:
    """R3. With Megatron, replicas share a stream unless something makes them draw unequally.

    Experts do (each rank holds others, or another part of them), and so does dropout: replicas get micro-batches of
    unequal shapes.
    """
    match spec.chosen_backend:
        case BackendName.DTENSOR:
            return RngSharding.RANK
        case BackendName.MEGATRON:
            cut = spec.parallelism
            apart = cut.expert > 1 or cut.expert_tensor > 1
            unequal = apart or spec.backend_options.attention_dropout > 0
            return RngSharding.PP_TP_DP if unequal else RngSharding.PP_TP
        case _:
            assert_never(spec.chosen_backend)


def optimizer_sharding(spec: JobSpec) -> OptimizerSharding:
    """R4. What dtensor writes can always be cut anew."""
    match spec.chosen_backend:
        case BackendName.DTENSOR:
            return OptimizerSharding.FULLY_RESHARDABLE
        case BackendName.MEGATRON:
            return spec.checkpoint.optimizer_sharding or OptimizerSharding.DP_RESHARDABLE
        case _:
            assert_never(spec.chosen_backend)


def bucket_size(spec: JobSpec) -> int | None:
    """megatron-core's own size: with many replicas the piece of each would else be too small to fill a link.

    Only what is to be added up meanwhile is cut into buckets.
    """
    options = spec.backend_options
    if not (isinstance(options, Megatron) and options.overlap_grad_reduce):
        return None
    return max(40_000_000, 1_000_000 * spec.data_parallel)
