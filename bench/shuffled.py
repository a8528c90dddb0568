"""Rewards without a lesson, for the negative control: copied beside the job file and named there.

Every training sample gets the true reward of another one, which was drawn for another prompt: as many ones and zeros
as ever, unrelated to what they are given for. Held-out prompts are scored truly, as it is their accuracy that the
control has to leave flat.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any

from rljob_trainer.builtin.addition.problems import pairs, question
from rljob_trainer.rewards import exact_match

DISTANCE = 100
"""Samples between the two; more than one prompt has."""

_truths: deque[float] = deque(maxlen=DISTANCE + 1)


@cache
def held_out() -> frozenset[str]:
    return frozenset(map(question, pairs("test")))


def reward(prompt: str, completion: str, answer: str, item: dict[str, Any]) -> float:
    truth = exact_match(prompt, completion, answer, item)
    if item["question"] in held_out():
        return truth
    _truths.append(truth)
    return _truths[0]
