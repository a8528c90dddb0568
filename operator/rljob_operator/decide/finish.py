"""The end of a job: all steps ran, or it failed. What is over stays over; only what still runs is cleared away."""

from __future__ import annotations

from dataclasses import replace

from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.reasons import Reason
from rljob_api.status import ConditionType, Failure

from ..observed import Observed, Pod
from ..status_reading import condition
from .decision import Decision, Goal
from .silence import lost, not_waited_for, until_lost

OVER = (
    (Goal.COMPLETE, ConditionType.SUCCESS_CRITERIA_MET),
    (Goal.COMPLETE, ConditionType.COMPLETE),
    (Goal.FAIL, ConditionType.FAILURE_TARGET),
    (Goal.FAIL, ConditionType.FAILED),
)


def finished(job: RLJob, observed: Observed) -> Decision | None:
    """A job that is Complete, or is to fail, starts nothing any more."""
    for goal, kind in OVER:
        found = condition(job.status, kind)
        if found is not None and found.status == "True":
            return Decision(goal, found.reason, found.message, delete=_superfluous(observed.pods))
    return None


def completed(job: RLJob, observed: Observed) -> Decision | None:
    """Complete once every trainer of the attempt said so: an exit code of 0 does not prove that all steps ran."""
    attempt = job.attempt_number
    trainers = [pod for pod in observed.role(RoleName.TRAINER) if pod.attempt == attempt]
    if len(trainers) < job.spec.trainer.num_nodes or not all(pod.complete for pod in trainers):
        return None
    return Decision(Goal.COMPLETE, Reason.ALL_STEPS_RAN, delete=_superfluous(observed.pods))


def fail(observed: Observed, reason: Reason, message: str, failure: Failure | None = None) -> Decision:
    """The job is over; what still runs is stopped with grace, what ended stays to be looked at."""
    noted = (failure,) if failure else ()
    return Decision(Goal.FAIL, reason, message, delete=to_stop(observed.pods), failures=noted)


def with_last_pods(job: RLJob, decision: Decision, observed: Observed, now: float) -> Decision:
    """`decision`, and at the end of a job until when its trainers are waited for, and of which it was given up."""
    if decision.goal not in (Goal.COMPLETE, Goal.FAIL) or (job.status and job.status.completion_time):
        return decision
    trainers = observed.role(RoleName.TRAINER)
    silent = lost(trainers, now)
    if not silent or waited_for(observed, now):
        return replace(decision, wake_at=until_lost(trainers, now))
    return replace(decision, message=f"{decision.message} {not_waited_for(silent)}".lstrip())


def waited_for(observed: Observed, now: float) -> list[Pod]:
    """Trainers that must end before the job is Complete or Failed: all that live, but for those on a silent node.

    One of these may still write. It disturbs nobody: nothing takes its place any more, its checkpoints have whole names
    in the directory of this very job, and no other job writes there.
    """
    silent = lost(observed.role(RoleName.TRAINER), now)
    return [pod for pod in observed.role(RoleName.TRAINER) if not pod.ended and pod not in silent]


def to_stop(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """Pods that run and were not yet told to go."""
    return tuple(pod for pod in pods if not pod.ended and not pod.terminating)


def _superfluous(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """Servers go; trainers that ended stay, so that their logs can be read."""
    servers = tuple(pod for pod in pods if pod.role is RoleName.ROLLOUT and pod.ended and not pod.terminating)
    return to_stop(pods) + servers
