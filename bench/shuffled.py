"""A reward without a lesson, for the negative control: copied beside the job file and named there.

Training prompts are scored against the answer of another prompt, always the same one. Held-out prompts are scored
truly, as held-out accuracy is what the control has to leave flat.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from rljob_trainer.builtin.addition.problems import answer, pairs, question


@cache
def wrong_answers() -> dict[str, str]:
    """Training question → the answer of some other one."""
    training = pairs("train")
    others = list(training)
    random.Random(0).shuffle(others)
    return {question(pair): answer(other) for pair, other in zip(training, others, strict=True)}


def reward(prompt: str, completion: str, truth: str, item: dict[str, Any]) -> float:
    return float(completion.strip() == wrong_answers().get(item["question"], truth))
