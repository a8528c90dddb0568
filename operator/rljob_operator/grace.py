"""Whether the grace period suffices to save, said before a pod is told to go. Pure."""

from __future__ import annotations

from math import ceil

from rljob_api.checkpoint import Checkpoint

EXIT_OVER_SAVE = 1.2
"""From SIGTERM to the exit, over the save alone: the target of `python -m bench recovery`, and an estimate here, no
bound. A save of a second comes out at it or a little above, as a quarter of a second is spent on other things; a longer
one below. It is measured while rank 0 generates: where ranks have to finish something first, that comes on top."""
SAVE_BEFORE = 1.0
"""With `asyncSave` another save may just have begun in the background, and is waited for."""


def too_short(checkpoint: Checkpoint, save_seconds: float | None, given: int | None = None) -> str:
    """A sentence, empty if the time suffices, nothing is saved on preemption, or no save was measured.

    `given` is what the pods that run have; an edit of the spec reaches the next ones alone. The shorter of both counts.
    """
    policy = checkpoint.on_preemption
    if save_seconds is None or not (checkpoint.enabled and policy.save):
        return ""
    saves = EXIT_OVER_SAVE + (SAVE_BEFORE if checkpoint.async_save else 0)
    needed = ceil(saves * save_seconds)
    asked = policy.grace_period_seconds
    seconds = asked if given is None else min(asked, given)
    if needed <= seconds:
        return ""
    risk = (
        f"A save takes up to {save_seconds:g} s, but pods that are told to go are killed after {seconds} s: steps"
        " since the last checkpoint would be lost."
    )
    if needed <= asked:
        return f"{risk} The {asked} s of checkpoint.onPreemption.gracePeriodSeconds hold from the next attempt on."
    return (
        f"{risk} Set checkpoint.onPreemption.gracePeriodSeconds to {needed} or more, if the notice of the machines"
        " allows it, which holds from the next attempt on; or save more often."
    )
