"""What belongs to the loop and lies beside the backend's state in each checkpoint: `loop.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field

from rljob_api.base import Record

LOOP_FILE = "loop.json"


class LoopState(Record):
    """The loop after `step` finished steps. With the seed it determines all that comes next."""

    step: int = 0
    """Optimizer updates done; also the weight version of the policy."""
    prompts_seen: int = 0
    """Position in the seeded order of training prompts."""
    samples_seen: int = 0
    tokens_seen: int = 0
    """Generated tokens trained on."""
    elapsed_seconds: float = 0
    """Time spent in steps that count, over all attempts."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Of the last step, and `val:*` where it was evaluated: what `keepTopK` ranks by. Its `train:reward` is
    `reward` here."""
    best: dict[str, float] = Field(default_factory=dict)
    """Highest value of each `val:*` so far."""

    @classmethod
    def read(cls, checkpoint: Path) -> Self:
        return cls.model_validate_json((checkpoint / LOOP_FILE).read_text())
