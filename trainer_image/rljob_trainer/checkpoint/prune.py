"""Removing the checkpoints that have had their time: after each one that became whole, and where room is wanted."""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress

from rljob_api.checkpoint import Checkpoint, KeepTopK

from .directory import Storage
from .durable import dispensable
from .evaluation import added_metrics
from .scrub import Scrub
from .verify import BrokenCheckpointError, read_manifest


def prune(storage: Storage, knobs: Checkpoint, scrub: Scrub | None = None) -> None:
    """Remove the checkpoints that have had their time; broken ones are left for the next resume to report, and what
    cannot be removed today for another save."""
    still = scrub.still if scrub else nullcontext()
    with dispensable("Removing checkpoints that have had their time"), still:
        whole: dict[int, dict[str, float]] = {}
        for step in storage.steps():
            with suppress(BrokenCheckpointError):
                path = storage.checkpoint(step)
                whole[step] = read_manifest(path).metrics | added_metrics(path)
        proved, reading = (scrub.proved, scrub.reading) if scrub else ((), ())
        for step in steps_to_remove(whole, knobs.keep_latest, knobs.keep_top_k, proved, reading):
            storage.remove_checkpoint(step)


def fits_another(storage: Storage) -> bool:
    """Whether there is room for a checkpoint of the newest one's size, as far as the volume tells.

    What is wrong with it otherwise, the save that follows will tell.
    """
    for step in reversed(storage.steps()):
        with suppress(BrokenCheckpointError, OSError):
            return read_manifest(storage.checkpoint(step)).bytes <= shutil.disk_usage(storage.root).free
    return True


def make_room(storage: Storage, knobs: Checkpoint, scrub: Scrub | None) -> None:
    """Remove what has had its time since the last save; one that is being read back makes way too."""
    if scrub:
        scrub.let_go()
    prune(storage, knobs, scrub)


def steps_to_remove(
    verified: Mapping[int, Mapping[str, float]],
    keep_latest: int,
    keep_top_k: KeepTopK | None,
    proved: Collection[int] = (),
    reading: Collection[int] = (),
) -> list[int]:
    """Steps to remove, oldest first, given the metrics of each whole checkpoint by step.

    Broken ones are not passed in: they neither count as kept nor are removed here. The newest is always
    kept, because `keep_latest` is at least 1; so are the newest of those that were read back whole (`proved`), and the
    one that is being read (`reading`).
    """
    newest = sorted(verified)[-max(keep_latest, 1) :]
    last_proved = sorted(step for step in proved if step in verified)[-1:]
    keep = {*newest, *last_proved, *reading, *(_best(verified, keep_top_k) if keep_top_k else [])}
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
