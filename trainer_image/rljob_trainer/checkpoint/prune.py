"""Removing the checkpoints that have had their time, after each one that became whole."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import suppress

from rljob_api.checkpoint import Checkpoint, KeepTopK

from .directory import Storage
from .evaluation import added_metrics
from .verify import BrokenCheckpointError, read_manifest


def prune(storage: Storage, knobs: Checkpoint, proved: Collection[int] = ()) -> None:
    """Remove the checkpoints that have had their time; broken ones are left for the next resume to report."""
    whole: dict[int, dict[str, float]] = {}
    for step in storage.steps():
        with suppress(BrokenCheckpointError):
            path = storage.checkpoint(step)
            whole[step] = read_manifest(path).metrics | added_metrics(path)
    for step in steps_to_remove(whole, knobs.keep_latest, knobs.keep_top_k, proved):
        storage.remove_checkpoint(step)


def steps_to_remove(
    verified: Mapping[int, Mapping[str, float]],
    keep_latest: int,
    keep_top_k: KeepTopK | None,
    proved: Collection[int] = (),
) -> list[int]:
    """Steps to remove, oldest first, given the metrics of each whole checkpoint by step.

    Broken ones are not passed in: they neither count as kept nor are removed here. The newest is always
    kept, because `keep_latest` is at least 1; so is the newest of those that were read back whole (`proved`).
    """
    newest = sorted(verified)[-max(keep_latest, 1) :]
    last_proved = sorted(step for step in proved if step in verified)[-1:]
    keep = {*newest, *last_proved, *(_best(verified, keep_top_k) if keep_top_k else [])}
    return [step for step in sorted(verified) if step not in keep]


def _best(verified: Mapping[int, Mapping[str, float]], top: KeepTopK) -> list[int]:
    """The steps with the highest metric; of equals the newer; those without the metric, or with NaN, are out."""
    name = top.metric.removeprefix("train:")  # a step's own metrics carry no prefix
    ranked = [
        (metrics[name], step)
        for step, metrics in verified.items()
        if not math.isnan(metrics.get(name, math.nan))
    ]
    return [step for _, step in sorted(ranked, reverse=True)[: top.count]]
