"""One line of `samples/step_N.jsonl` on the job's volume: a completion and what it came to."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Self

from pydantic import ConfigDict, model_validator

from .base import Record

SAMPLES_DIR = "samples"
STEP_FILE = re.compile(r"step_(\d+)\.jsonl")
"""Name of the file of a step."""
TOKEN_BYTES = 8
"""Of `SampleRecord.drawn`, for each token."""


class SampleRecord(Record):
    """Written by the trainer; shown by `rljob samples`, and fed to training again by `rljob replay`."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    step: int
    prompt_index: int
    """Position of the prompt in its dataset."""
    number: int
    """Which of the prompt's completions, from 0."""
    prompt: str
    text: str
    answer: str
    reward: float
    advantage: float
    weight_version: int
    """Optimizer updates of the policy that drew it."""
    finish_reason: str
    tokens: int
    """Generated tokens."""
    drawn: bytes = b""
    """What training saw of it: the tokens as int32, then their log-probabilities as float32, little-endian; URL-safe
    base64 in JSON. Empty in files of versions that did not keep it."""

    @model_validator(mode="after")
    def _drawn_is_whole(self) -> Self:
        if self.drawn and len(self.drawn) != self.tokens * TOKEN_BYTES:
            raise ValueError(f"{len(self.drawn)} bytes are not those of {self.tokens} tokens")
        return self

    @property
    def token_ids(self) -> list[int]:
        """Generated tokens; none where they were not kept."""
        return list(struct.unpack_from(f"<{self._kept}i", self.drawn))

    @property
    def logprobs(self) -> list[float]:
        """Log-probability of each, as the rollout server told it, to float32's precision: what a batch holds."""
        return list(struct.unpack_from(f"<{self._kept}f", self.drawn, len(self.drawn) // 2))

    @property
    def _kept(self) -> int:
        return len(self.drawn) // TOKEN_BYTES


def step_file(step: int) -> str:
    """Name of the file of a step."""
    return f"step_{step}.jsonl"


def drawn(token_ids: Sequence[int], logprobs: Sequence[float]) -> bytes:
    """`SampleRecord.drawn`, of as many log-probabilities as tokens."""
    count = len(token_ids)
    return struct.pack(f"<{count}i{count}f", *token_ids, *logprobs)
