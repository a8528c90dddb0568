"""What goes on in a job, in the terms of its goodput. Read from what a pass saw and decided; pure."""

from __future__ import annotations

from rljob_api.failure import RoleName
from rljob_api.goodput import Use
from rljob_api.job import RLJob
from rljob_api.progress import Progress, TrainPhase, use_of
from rljob_api.reasons import Reason

from .decide import Decision, Goal
from .decide.hindrance import hindrance
from .decide.stall import hang_of
from .goodput import Hung, Seen
from .observed import Observed, Pod, PodPhase

STANDS_STILL = (Goal.SUSPENDED, Goal.COMPLETE, Goal.FAIL)


def seen(job: RLJob, observed: Observed, decision: Decision, now: float) -> Seen:
    attempt = job.attempt_number
    progress = observed.progress
    current = progress if progress is not None and progress.attempt == attempt else None
    return Seen(
        doing=_doing(job, observed, decision, current, now),
        gpus=_gpus(job, observed),
        attempt=attempt,
        told=current.spent if current else None,
        ended=decision.begin is not None or decision.goal is not Goal.RUN,
        hung=_hung(observed, attempt),
    )


def _doing(
    job: RLJob, observed: Observed, decision: Decision, progress: Progress | None, now: float
) -> Use | None:
    if decision.goal in STANDS_STILL:
        return None
    if decision.goal is Goal.WAIT or decision.reason == Reason.NODE_LOST:
        return Use.WAITING
    if decision.goal is Goal.RUN and decision.begin is None and (phase := _phase(job, progress)):
        return use_of(phase)
    return Use.WAITING if hindrance(job, observed, now) else Use.RESTARTING


def _phase(job: RLJob, progress: Progress | None) -> TrainPhase | None:
    """What the trainer does, as far as it told; as the status knows, while it does not tell a new operator yet."""
    if progress is not None:
        return progress.phase
    if job.status is None or job.attempt is None or not job.attempt.has_begun:
        return None
    known = job.status.progress.phase
    return TrainPhase(known) if known else None


def _hung(observed: Observed, attempt: int) -> Hung | None:
    trainers = [pod for pod in observed.role(RoleName.TRAINER) if pod.attempt == attempt]
    hang = next((hang for pod in trainers if (hang := hang_of(pod))), None)
    return Hung(hang.seconds, use_of(hang.phase)) if hang else None


def _gpus(job: RLJob, observed: Observed) -> int:
    """Those of pods that have a node."""
    each = {
        RoleName.TRAINER: job.spec.trainer.gpus_per_node,
        RoleName.ROLLOUT: job.spec.rollout.tensor_parallel if job.spec.on_gpu else 0,
    }
    return sum(each[pod.role] for pod in observed.pods if _placed(pod))


def _placed(pod: Pod) -> bool:
    return not pod.ended and (bool(pod.node) or pod.phase is PodPhase.RUNNING)
