"""The end of a job: all steps ran, or it failed. What is over stays over; only what still runs is cleared away."""

from __future__ import annotations

from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.status import ConditionType, Failure

from ..observed import Observed, Pod
from ..status_reading import condition
from .decision import Decision, Goal


def finished(job: RLJob, observed: Observed) -> Decision | None:
    """A job that is Complete or Failed starts nothing any more."""
    for goal, kind in ((Goal.COMPLETE, ConditionType.COMPLETE), (Goal.FAIL, ConditionType.FAILED)):
        verdict = condition(job.status, kind)
        if verdict is not None and verdict.status == "True":
            return Decision(goal, verdict.reason, verdict.message, delete=to_stop(observed.pods))
    return None


def completed(job: RLJob, observed: Observed) -> Decision | None:
    """Complete once every trainer of the attempt said so: an exit code of 0 does not prove that all steps ran."""
    attempt = job.status.attempt.number if job.status and job.status.attempt else 0
    trainers = [pod for pod in observed.role(RoleName.TRAINER) if pod.attempt == attempt]
    if len(trainers) < job.spec.trainer.num_nodes or not all(pod.complete for pod in trainers):
        return None
    return Decision(Goal.COMPLETE, "AllStepsRan", delete=to_stop(observed.pods))


def fail(observed: Observed, reason: str, message: str, failure: Failure) -> Decision:
    """The job is over; what still runs is stopped with grace, what ended stays to be looked at."""
    return Decision(Goal.FAIL, reason, message, delete=to_stop(observed.pods), failures=(failure,))


def to_stop(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """Pods that run and were not yet told to go."""
    return tuple(pod for pod in pods if not pod.ended and not pod.terminating)
