"""The trainer gang: all of it runs, or none. A pod that ends early ends the attempt; the next one starts afresh.

An attempt passes through three looks: its number is written to the status (`begin`), its pods are created (`start`),
and, when one of them ended, the others are stopped, the pause passes, and the next attempt begins.
"""

from __future__ import annotations

import hashlib

from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.status import AttemptStatus, ConditionType, Failure

from .. import names, times
from ..observed import Observed, Pod
from ..status_reading import is_true
from .backoff import pause
from .decision import Decision, Ended, Goal, PodStart
from .finish import fail, to_stop
from .verdict import Verdict, failure, first_to_end, is_mistake, sentence, verdict


def gang(job: RLJob, observed: Observed, now: float) -> Decision:
    attempt = job.status.attempt if job.status else None
    if attempt is None:
        return Decision(Goal.RUN, "FirstAttempt", begin=next_attempt(job, "FirstAttempt", now))
    if is_true(job.status, ConditionType.SUSPENDED):
        return Decision(Goal.RUN, "Resumed", begin=next_attempt(job, "Resumed", now))
    trainers = observed.role(RoleName.TRAINER)
    stale = tuple(pod for pod in trainers if pod.attempt != attempt.number)
    if names.run_config_map(job.metadata.name, attempt.number) not in observed.run_config_maps:
        return _start(job, attempt, stale)
    mine = [pod for pod in trainers if pod.attempt == attempt.number]
    return _watch(job, attempt, observed, mine, now)


def next_attempt(job: RLJob, reason: str, now: float, failures_in_a_row: int = 0) -> AttemptStatus:
    before = job.status.attempt if job.status else None
    number = before.number + 1 if before else 1
    return AttemptStatus(
        number=number,
        run_config_map_name=names.run_config_map(job.metadata.name, number),
        token=_token(job.metadata.uid, number, now),
        started_time=times.to_text(now),
        reason=reason,
        failures_in_a_row=failures_in_a_row,
    )


def _token(uid: str, number: int, now: float) -> str:
    """Differs between two attempts even if they came to carry the same number."""
    return f"{number}-{hashlib.sha256(f'{uid}/{number}/{now}'.encode()).hexdigest()[:12]}"


def _start(job: RLJob, attempt: AttemptStatus, stale: tuple[Pod, ...]) -> Decision:
    """All pods at once, but never beside living ones of another attempt."""
    living = [pod for pod in stale if not pod.ended]
    if living:
        message = f"Waiting for {len(living)} pods of an earlier attempt to end."
        return Decision(Goal.RESTART, "OldPodsStopping", message, delete=to_stop(stale))
    name = job.metadata.name
    nodes = range(job.spec.trainer.num_nodes)
    pods = [PodStart(RoleName.TRAINER, n, names.trainer_pod(name, n, attempt.number)) for n in nodes]
    return Decision(Goal.RUN, attempt.reason, delete=stale, start=tuple(pods))


def _watch(job: RLJob, attempt: AttemptStatus, observed: Observed, mine: list[Pod], now: float) -> Decision:
    broken = [pod for pod in mine if pod.ended and not pod.complete]
    mistakes = [pod for pod in broken if is_mistake(pod)]
    if mistakes:
        cause = first_to_end(mistakes)
        return fail(observed, Verdict.MISTAKE.value, sentence(cause), failure(cause, now))
    if not broken and len(mine) >= job.spec.trainer.num_nodes:
        return Decision(Goal.RUN, attempt.reason)
    if any(not pod.ended for pod in mine):
        return Decision(Goal.RESTART, "GangStopping", _why(broken), delete=to_stop(tuple(mine)))
    if not broken:
        return _again(job, Verdict.PREEMPTED, "PodsGone", now)
    return _judge(job, attempt, observed, first_to_end(broken), now)


def _why(broken: list[Pod]) -> str:
    cause = sentence(first_to_end(broken)) if broken else "a trainer pod is gone"
    return f"The trainer gang restarts: {cause}."


def _judge(job: RLJob, attempt: AttemptStatus, observed: Observed, cause: Pod, now: float) -> Decision:
    """The whole gang has ended; `cause` was first."""
    policy = job.spec.failure_policy
    found = verdict(policy, cause)
    if found is Verdict.PREEMPTED:
        return _again(job, found, found.value, now)
    if found.fatal:
        return fail(observed, found.value, sentence(cause), failure(cause, now))
    counted = job.status.restarts_count_towards_max if job.status else 0
    if found is Verdict.COUNTED and counted >= policy.max_restarts:
        message = f"{sentence(cause)} (after {counted} restarts; failurePolicy.maxRestarts is {policy.max_restarts})"
        return fail(observed, "MaxRestartsExceeded", message, failure(cause, now))
    return _after_pause(job, attempt, cause, found, now)


def _after_pause(job: RLJob, attempt: AttemptStatus, cause: Pod, found: Verdict, now: float) -> Decision:
    in_a_row = 1 if _finished_a_step(job, attempt) else attempt.failures_in_a_row + 1
    due = (cause.finished_at or now) + pause(job.spec.failure_policy.backoff_seconds, in_a_row)
    noted = (failure(cause, now),)
    if now >= due:
        return _again(job, found, found.value, now, in_a_row=in_a_row, noted=noted)
    message = f"The trainer gang restarts at {times.to_text(due)}: {sentence(cause)}"
    return Decision(Goal.RESTART, "BackOff", message, failures=noted, wake_at=due)


def _again(
    job: RLJob,
    found: Verdict,
    reason: str,
    now: float,
    *,
    in_a_row: int = 0,
    noted: tuple[Failure, ...] = (),
) -> Decision:
    ended = {Verdict.PREEMPTED: Ended.PREEMPTED, Verdict.IGNORED: Ended.IGNORED}.get(found, Ended.COUNTED)
    begin = next_attempt(job, reason, now, in_a_row)
    return Decision(Goal.RESTART, reason, begin=begin, ended=ended, failures=noted)


def _finished_a_step(job: RLJob, attempt: AttemptStatus) -> bool:
    """Whether this attempt got further than where it began; unknown counts as no."""
    step = job.status.progress.step if job.status else 0
    return attempt.from_step is not None and step > attempt.from_step
