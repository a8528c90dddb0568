"""The learning rate of an update, from the `scheduler` block. Pure; called by the backends."""

from __future__ import annotations

import math
from typing import assert_never

from rljob_api.parallelism import Decay, Scheduler


def learning_rate(updates: int, peak: float, last: int, scheduler: Scheduler) -> float:
    """The rate of the next update after `updates` of them.

    It rises from 0 in equal steps, is `peak` at update number `warmupSteps`, and has come down to `minFactor` x peak
    at update number `last`.
    """
    number = updates + 1
    warmup = scheduler.warmup_steps
    if number < warmup:
        return peak * number / warmup
    way = min(1.0, (number - warmup) / max(1, last - warmup))
    return peak * (scheduler.min_factor + (1 - scheduler.min_factor) * _rest(scheduler.decay, way))


def _rest(decay: Decay, way: float) -> float:
    """What is left of the decay, from 1 to 0, when `way` of it is done."""
    match decay:
        case Decay.CONSTANT:
            return 1.0
        case Decay.LINEAR:
            return 1 - way
        case Decay.COSINE:
            return (1 + math.cos(math.pi * way)) / 2
        case _:
            assert_never(decay)
