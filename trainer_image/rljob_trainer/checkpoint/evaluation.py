"""What an evaluation adds to a checkpoint that was saved before it: pods were told to go in between.

It lies beside the checkpoint's files and not in its manifest, which never changes: nothing is restored from it, and a
checkpoint is whole with or without it. `prune` ranks by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from rljob_api.base import Record

from .directory import Storage
from .durable import read_record, write_durably

EVALUATION_FILE = "evaluation.json"


class Evaluation(Record):
    """Content of `evaluation.json`."""

    metrics: dict[str, float] = Field(default_factory=dict)
    """`val:*`, as the manifest has them where the evaluation came first."""


def add_evaluation(storage: Storage, step: int, metrics: Mapping[str, float]) -> None:
    """Note it for the checkpoint of that step, if there is one. Raises `FencedError` if a newer attempt writes here."""
    checkpoint = storage.checkpoint(step)
    if metrics and checkpoint.is_dir():
        storage.check_fence()
        content = Evaluation(metrics=dict(metrics))
        write_durably(checkpoint / EVALUATION_FILE, content.model_dump_json(by_alias=True))


def added_metrics(checkpoint: Path) -> dict[str, float]:
    """Those that are not in the manifest, by name."""
    lost = "the checkpoint counts as one that was not evaluated"
    found = read_record(checkpoint / EVALUATION_FILE, Evaluation, lost)
    return found.metrics if found else {}
