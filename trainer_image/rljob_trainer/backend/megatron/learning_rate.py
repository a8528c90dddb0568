"""The learning rate of an update, from the `scheduler` block. Pure."""

from __future__ import annotations

import math
from typing import assert_never

from rljob_api.parallelism import Decay, Scheduler


def learning_rate(updates: int, peak: float, last: int, scheduler: Scheduler) -> float:
    """The rate of the next update after `updates` of them; the decay ends with update number `last`."""
    if updates < scheduler.warmup_steps:
        return peak * (updates + 1) / scheduler.warmup_steps
    way = min(1.0, (updates - scheduler.warmup_steps) / max(1, last - scheduler.warmup_steps))
    floor = scheduler.min_factor
    match scheduler.decay:
        case Decay.CONSTANT:
            return peak
        case Decay.LINEAR:
            return peak * (1 - way * (1 - floor))
        case Decay.COSINE:
            return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * way)) / 2)
        case _:
            assert_never(scheduler.decay)
