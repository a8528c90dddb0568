"""The sums a + b with operands from 0 to 99, cut into what is trained on and what is held out. No torch."""

from __future__ import annotations

import random
from functools import cache

LARGEST_OPERAND = 99
HELD_OUT = 0.2
"""Share of all pairs that no training ever sees, supervised or by reward."""

SPLITS = ("train", "test")

Pair = tuple[int, int]


@cache
def pairs(split: str) -> tuple[Pair, ...]:
    """The operand pairs of `train` or `test`, the same on every machine. Raises `KeyError` for another
    split."""
    operands = range(LARGEST_OPERAND + 1)
    shuffled = [(a, b) for a in operands for b in operands]
    random.Random("builtin:addition").shuffle(shuffled)
    held_out = int(len(shuffled) * HELD_OUT)
    return {"test": tuple(shuffled[:held_out]), "train": tuple(shuffled[held_out:])}[split]


def question(pair: Pair) -> str:
    return f"{pair[0]}+{pair[1]}="


def answer(pair: Pair) -> str:
    return str(sum(pair))


def rows(split: str) -> list[dict[str, object]]:
    """The split as data rows with the columns `question` and `answer`."""
    return [{"question": question(pair), "answer": answer(pair)} for pair in pairs(split)]
