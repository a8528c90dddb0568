"""One line of `samples/step_N.jsonl` on the job's volume: a completion and what it came to."""

from __future__ import annotations

from .base import Record

SAMPLES_DIR = "samples"


class SampleRecord(Record):
    """Written by the trainer, shown by `rljob samples`."""

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
