"""AdamW's numbers in the groups of parameters of an optimizer, of either backend."""

from __future__ import annotations

from typing import Any

from rljob_api.parallelism import Optimizer


def set_numbers(group: dict[str, Any], options: Optimizer, decay_share: float) -> None:
    """What the spec says now: state that is loaded brings along what it said when that was saved.

    `decay_share` is 0 where parameters do not decay, else 1. The learning rate is set before every update.
    """
    group["betas"] = (options.beta1, options.beta2)
    group["eps"] = options.eps
    group["weight_decay"] = options.weight_decay * decay_share
