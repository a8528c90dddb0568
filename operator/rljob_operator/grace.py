"""Whether the grace period suffices to save, said before a pod is told to go. Pure."""

from __future__ import annotations

from math import ceil

from rljob_api.checkpoint import Checkpoint

EXIT_OVER_SAVE = 1.2
"""From SIGTERM to the exit, over the save alone: what `python -m bench recovery` holds the trainer to."""
SAVE_BEFORE = 1.0
"""With `asyncSave` another save may just have begun in the background, and is waited for."""


def too_short(checkpoint: Checkpoint, save_seconds: float | None) -> str:
    """A sentence, empty if `gracePeriodSeconds` suffices, nothing is saved on preemption, or no save was measured."""
    policy = checkpoint.on_preemption
    if save_seconds is None or not (checkpoint.enabled and policy.save):
        return ""
    saves = EXIT_OVER_SAVE + (SAVE_BEFORE if checkpoint.async_save else 0)
    needed = ceil(saves * save_seconds)
    if needed <= policy.grace_period_seconds:
        return ""
    return (
        f"A save takes up to {save_seconds:g} s, but pods that are told to go are killed after"
        f" {policy.grace_period_seconds} s: steps since the last checkpoint would be lost. Set"
        f" checkpoint.onPreemption.gracePeriodSeconds to {needed} or more, if the notice of the machines allows it, or"
        " save more often."
    )
