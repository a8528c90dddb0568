"""A gang that hung: what is said of it, and whether it is the same step as last time. `spec.stall` is its limit.

The parent of the ranks found it and ended them; a node whose ranks only waited for others may have ended first.
"""

from __future__ import annotations

from rljob_api.job import RLJob
from rljob_api.progress import SETTING_UP, Ending, Hang
from rljob_api.reasons import Reason
from rljob_api.status import HungStep

from ..observed import Pod
from .verdict import first_to_end, is_lost, lacks_volume
from .verdict import sentence as sentence_of


def cause_of(broken: list[Pod]) -> Pod:
    """Who ended the attempt: one that was lost with its node, then one that tells of a hang or of its volume, each
    before those that died of its end; else the first."""
    lost = [pod for pod in broken if is_lost(pod)]
    telling = [pod for pod in broken if hang_of(pod)] or [pod for pod in broken if lacks_volume(pod)]
    return first_to_end(lost or telling or broken)


def hang_of(pod: Pod | None) -> Hang | None:
    words = pod.last_words if pod else None
    return words.hang if words and words.ending is Ending.STALLED else None


def reason(pod: Pod | None, otherwise: Reason) -> Reason:
    return Reason.STALLED if hang_of(pod) else otherwise


def sentence(job: RLJob, cause: Pod) -> str:
    """What the pod said, and that it is the same step again if it is."""
    said, now = sentence_of(job, cause), remembered(job, cause)
    if hang_of(cause) is None or now is None or now.times < 2:
        return said
    return f"{said.rstrip('. ')}. {_again(now)}"


def remembered(job: RLJob, cause: Pod | None) -> HungStep | None:
    """What the next attempt knows of hangs: this one, or the last one until its step is finished."""
    status = job.status
    before = status.attempt.hung if status and status.attempt else None
    hang = hang_of(cause)
    if hang is not None:
        times = before.times if before is not None and _same(before, hang) else 0
        return HungStep(step=hang.step, phase=hang.phase.value, times=times + 1)
    finished = status.progress.step if status else 0
    return before if before is not None and finished <= before.step else None


def _same(before: HungStep, hang: Hang) -> bool:
    """The same step in whatever phase; before the first step, the same phase."""
    setting_up = hang.phase in SETTING_UP or before.phase in SETTING_UP
    return before.step == hang.step and (before.phase == hang.phase or not setting_up)


def _again(now: HungStep) -> str:
    if now.phase in SETTING_UP:
        return f"{now.phase} has hung {now.times} times in a row: look at the volume, or raise the limit."
    return (
        f"Step {now.step + 1} has hung {now.times} times in a row, so the fault is most likely in that step: look at "
        "its prompts and answers and at what the stacks name, mend the reward or the data, or raise the limit."
    )
