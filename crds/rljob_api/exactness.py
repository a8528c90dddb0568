"""What no resume of a job can be, whatever is or is not changed: known before anything was lost.

The trainer names these doubts at every resume, the status from the beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .status import Exactness

if TYPE_CHECKING:
    from .job import JobSpec


def lasting_doubts(spec: JobSpec, *, drawn: bool = True) -> list[str]:
    """Why such a job does not go on bit for bit, as parts of a sentence; its samples are `drawn`, or recorded."""
    if not spec.on_gpu:
        return []
    doubts = ["vLLM on GPUs does not repeat its samples bit for bit"] if drawn else []
    if spec.trainer.num_nodes > 1:
        doubts.append("exactness over several GPU nodes is unproven")
    return doubts


def unreachable(spec: JobSpec) -> str:
    """A sentence if `resume.exactness` asks for what no restart of this job can be, else nothing."""
    doubts = lasting_doubts(spec)
    if spec.resume.exactness is not Exactness.EXACT or not doubts:
        return ""
    return (
        f"spec.resume.exactness is Exact, but no restart of this job can be: {'; '.join(doubts)}. Nothing is lost yet;"
        " the first restart, after a preemption too, would wait for an edit. Set it to Lossless."
    )
