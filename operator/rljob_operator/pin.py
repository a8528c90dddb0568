"""What an attempt takes from the administrator's defaults when it begins, and then keeps."""

from __future__ import annotations

from dataclasses import replace

from rljob_api.job import RLJob

from .decide import Decision
from .settings import JobDefaults


def pinned(job: RLJob, decision: Decision, defaults: JobDefaults) -> Decision:
    """`decision` with what its new attempt, if it begins one, will run."""
    if decision.begin is None:
        return decision
    before = job.attempt
    taken = {
        "trainer_image": job.spec.trainer.image or defaults.image,
        "rollout_image": job.spec.rollout.image or defaults.image,
        # A claim's class cannot change: it is that of the first attempt.
        "storage_class_name": before.storage_class_name if before else _storage_class(job, defaults),
    }
    return replace(decision, begin=decision.begin.model_copy(update=taken))


def _storage_class(job: RLJob, defaults: JobDefaults) -> str:
    return job.spec.checkpoint.storage.storage_class_name or defaults.storage_class_name or ""
