"""What of a checkpoint can be restored under another layout (R3, R4). Pure; `plan` asks before anything is loaded."""

from __future__ import annotations

from typing import assert_never

from rljob_api.checkpoint import OptimizerSharding
from rljob_api.manifest import CheckpointManifest, Layout, RngSharding

SHARDINGS = {"rng_sharding", "optimizer_sharding", "bucket_size"}
"""What of a layout is not about how the model is spread."""


def same_spread(then: Layout, now: Layout) -> bool:
    """Whether every rank holds the same part of the model, and sees the same share of a batch."""
    return _without(then, SHARDINGS) == _without(now, SHARDINGS)


def same_cut(then: Layout, now: Layout) -> bool:
    """Whether a copy of the model is cut the same way; the number of copies may differ."""
    copies = {"world", "data"}
    return _without(then, SHARDINGS | copies) == _without(now, SHARDINGS | copies)


def _without(layout: Layout, fields: set[str]) -> dict[str, object]:
    return layout.model_dump(exclude=fields)


def why_no_rng(found: CheckpointManifest, layout: Layout) -> str | None:
    """What keeps random states from being restored, as part of a sentence; None if nothing does."""
    then, step = found.layout, found.step
    if not found.has_rng:
        return f"the checkpoint of step {step} has no random states"
    if then.rng_sharding is not layout.rng_sharding:
        return (
            f"the checkpoint of step {step} has random states by {then.rng_sharding} and this attempt needs"
            f" them by {layout.rng_sharding}"
        )
    if _streams(then) != _streams(layout):
        return (
            f"the checkpoint of step {step} has random states for {then.short} and this attempt is"
            f" {layout.short}"
        )
    return None


def _streams(layout: Layout) -> object:
    """What the random states in a checkpoint are told apart by."""
    match layout.rng_sharding:
        case RngSharding.PP_TP:
            return layout.pipeline, layout.tensor
        case RngSharding.PP_TP_DP | RngSharding.RANK:
            return _without(layout, SHARDINGS)
        case _:
            assert_never(layout.rng_sharding)


def why_no_optimizer(found: CheckpointManifest, layout: Layout) -> str | None:
    """What keeps the optimizer from being loaded, as part of a sentence; None if nothing does."""
    then = found.layout
    if not found.has_optimizer:
        return f"the checkpoint of step {found.step} was saved without its optimizer"
    if then.optimizer_sharding is OptimizerSharding.FULLY_RESHARDABLE:
        return None
    if not same_cut(then, layout):
        return _as_it_was_saved(found, f"under {then.short}", f"is {layout.short}")
    if then.bucket_size != layout.bucket_size:
        was, now = _buckets(then), _buckets(layout)
        return _as_it_was_saved(found, f"in {was}", f"has {now} (see spec.megatron.overlapGradReduce)")
    return None


def _as_it_was_saved(found: CheckpointManifest, was: str, now: str) -> str:
    return (
        f"the optimizer of step {found.step} was saved as {found.layout.optimizer_sharding} {was}, and this attempt"
        f" {now}; only jobs with spec.checkpoint.optimizerSharding: {OptimizerSharding.FULLY_RESHARDABLE} save one"
        " that loads there"
    )


def _buckets(layout: Layout) -> str:
    return "one bucket" if layout.bucket_size is None else f"buckets of {layout.bucket_size} gradients"
