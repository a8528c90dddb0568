"""What an evaluation adds to a checkpoint that was saved before it: pods were told to go in between.

It lies beside the checkpoint's files and not in its manifest, which never changes: nothing is restored from it, and a
checkpoint is whole with or without it. `prune` ranks by it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from rljob_api.base import Record

from .directory import Storage
from .durable import write_durably

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
    file = checkpoint / EVALUATION_FILE
    if not file.exists():
        return {}
    try:
        return Evaluation.model_validate_json(file.read_bytes()).metrics
    except ValidationError:
        logging.warning("%s is damaged; the checkpoint counts as one that was not evaluated", file)
        return {}
