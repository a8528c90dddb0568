"""`spec.suspend`: trainers save and go, servers go, storage stays."""

from __future__ import annotations

from dataclasses import replace

from rljob_api.job import RLJob
from rljob_api.reasons import Reason

from ..observed import Observed
from .decision import Decision, Goal
from .finish import to_stop
from .silence import waiting


def suspended(job: RLJob, observed: Observed, now: float) -> Decision | None:
    if not job.spec.suspend:
        return None
    if any(not pod.ended for pod in observed.pods):
        message = "Pods save and stop because spec.suspend is true."
        decision = waiting(Goal.SUSPEND, Reason.SUSPENDING, message, observed.pods, now)
        return replace(decision, delete=to_stop(observed.pods))
    message = "Suspended; to go on from the newest checkpoint, set spec.suspend to false or run it again."
    return Decision(Goal.SUSPENDED, Reason.SUSPENDED, message, delete=observed.pods)
