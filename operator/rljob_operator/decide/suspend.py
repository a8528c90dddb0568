"""`spec.suspend`: trainers save and go, servers go, storage stays."""

from __future__ import annotations

from rljob_api.job import RLJob

from ..observed import Observed
from .decision import Decision, Goal
from .finish import to_stop


def suspended(job: RLJob, observed: Observed) -> Decision | None:
    if not job.spec.suspend:
        return None
    if any(not pod.ended for pod in observed.pods):
        message = "Pods save and stop because spec.suspend is true."
        return Decision(Goal.SUSPEND, "Suspending", message, delete=to_stop(observed.pods))
    message = "Suspended; set spec.suspend to false to go on from the newest checkpoint."
    return Decision(Goal.SUSPENDED, "Suspended", message, delete=observed.pods)
