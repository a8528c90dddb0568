"""The trainer gang: all of it runs, or none. A pod that ends early ends the attempt; the next one starts afresh.

An attempt passes through three looks: its number is written to the status (`begin`), its pods are created (`start`),
and, when one of them ended, the others are stopped, the pause passes, and the next attempt begins.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from rljob_api.base import many
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.reasons import Reason
from rljob_api.status import AttemptStatus, ConditionType, Status

from .. import names, times
from ..observed import Observed, Pod
from ..status_reading import condition, is_true
from . import stall
from .backoff import pause
from .decision import Decision, Ended, GivenBack, Goal, PodStart
from .finish import fail, to_stop
from .placement import give_back
from .placement import pause as pause_before_retry
from .silence import waiting
from .verdict import Verdict, failure, first_to_end, is_mistake, is_unmet, obeyed, verdict, words

KEPT_ATTEMPTS = 2
"""Attempts before the present one whose trainer pods stay, so that their logs can be read."""

SURVIVORS_SECONDS = 30
"""How long pods may take to go once another one is lost. Their ranks cannot save without it, and may hang in a
collective with it for as long as they are let; what they say of that to the volume takes seconds."""


def gang(job: RLJob, observed: Observed, now: float) -> Decision:
    attempt = job.attempt
    if attempt is None:
        return _begin(job, Reason.FIRST_ATTEMPT, now)
    if is_true(job.status, ConditionType.SUSPENDED):
        return _begin(job, Reason.RESUMED, now)
    if attempt.given_back_time:
        return _try_again(job, attempt, observed, now)
    trainers = observed.role(RoleName.TRAINER)
    mine = [pod for pod in trainers if pod.attempt == attempt.number]
    if attempt.run_config_map_name not in observed.run_config_maps and not any(pod.ended for pod in mine):
        return _start(job, attempt, observed, now)
    return _watch(job, attempt, observed, mine, now)


def _begin(job: RLJob, reason: str, now: float) -> Decision:
    return Decision(Goal.RUN, reason, begin=next_attempt(job, reason, now))


def _try_again(job: RLJob, attempt: AttemptStatus, observed: Observed, now: float) -> Decision:
    """The attempt was given back: once nothing of the job lives and the pause is over, the next one begins; at once
    after an edit, which may have made room."""
    reason = attempt.given_back_reason
    living = tuple(pod for pod in observed.pods if not pod.ended)
    due = _retry_at(job, attempt, reason, now)
    message = _why_given_back(job.status, due)
    if living:
        return replace(waiting(Goal.WAIT, reason, message, living, now), delete=to_stop(observed.pods))
    if due is None or now < due:
        return Decision(Goal.WAIT, reason, message, wake_at=due)
    begin = next_attempt(job, reason, now, attempt.failures_in_a_row)
    return Decision(
        Goal.RUN, reason, begin=begin.model_copy(update={"tries_in_a_row": attempt.tries_in_a_row + 1})
    )


def _why_given_back(status: Status | None, due: float | None) -> str:
    """As it was said then, unless a silent node had to be told of meanwhile."""
    progressing = condition(status, ConditionType.PROGRESSING)
    if status is not None and (progressing is None or progressing.reason != Reason.NODE_LOST):
        return status.message
    again = (
        f"the next try is at {times.to_text(due)}" if due is not None else "it is tried again after an edit"
    )
    return f"All pods were given back; {again}."


def _retry_at(job: RLJob, attempt: AttemptStatus, reason: str, now: float) -> float | None:
    """None: not before an edit."""
    if attempt.generation != job.metadata.generation:
        return now
    if reason == Reason.EXACTNESS_UNMET:
        return None
    return times.to_seconds(attempt.given_back_time) + pause_before_retry(attempt)


def next_attempt(
    job: RLJob, reason: str, now: float, failures_in_a_row: int = 0, cause: Pod | None = None
) -> AttemptStatus:
    """`cause` is what ended the attempt before it, if that failed."""
    before = job.attempt
    number = before.number + 1 if before else 1
    return AttemptStatus(
        number=number,
        generation=job.metadata.generation,
        run_config_map_name=names.run_config_map(job.metadata.name, number),
        token=_token(job.metadata.uid, number, now),
        started_time=times.to_text(now),
        reason=reason,
        failures_in_a_row=failures_in_a_row,
        hung=stall.remembered(job, cause),
    )


def _token(uid: str, number: int, now: float) -> str:
    """Differs between two attempts even if they came to carry the same number."""
    return f"{number}-{hashlib.sha256(f'{uid}/{number}/{now}'.encode()).hexdigest()[:12]}"


def _start(job: RLJob, attempt: AttemptStatus, observed: Observed, now: float) -> Decision:
    """All pods at once, but never beside living ones of another attempt."""
    stale = tuple(pod for pod in observed.role(RoleName.TRAINER) if pod.attempt != attempt.number)
    living = [pod for pod in stale if not pod.ended]
    if living:
        message = f"Waiting for {len(living)} pods of an earlier attempt to end."
        decision = waiting(Goal.RESTART, Reason.OLD_PODS_STOPPING, message, living, now)
        return replace(decision, delete=to_stop(stale))
    unplaceable = give_back(job, attempt, observed, now)
    if unplaceable is not None and unplaceable.goal is Goal.WAIT:
        return unplaceable
    name = job.metadata.name
    nodes = range(job.spec.trainer.num_nodes)
    pods = [PodStart(RoleName.TRAINER, n, names.trainer_pod(name, n, attempt.number)) for n in nodes]
    return Decision(
        Goal.RUN,
        attempt.reason,
        delete=tuple(pod for pod in stale if pod.attempt < attempt.number - KEPT_ATTEMPTS),
        start=tuple(pods),
        wake_at=unplaceable.wake_at if unplaceable else None,
    )


def _watch(job: RLJob, attempt: AttemptStatus, observed: Observed, mine: list[Pod], now: float) -> Decision:
    broken = [pod for pod in mine if pod.ended and not pod.complete]
    mistakes = [pod for pod in broken if is_mistake(pod)]
    if mistakes:
        cause = first_to_end(mistakes)
        return fail(observed, Reason.MISTAKE, stall.sentence(job, cause), failure(job, cause, now))
    unmet = [pod for pod in broken if is_unmet(pod)]
    if unmet:
        return _wait_for_choice(observed, unmet[0], now)
    missing = len(mine) < job.spec.trainer.num_nodes
    if not broken and not missing:
        placed = waiting(Goal.RUN, attempt.reason, "", mine, now)
        return give_back(job, attempt, observed, now) or placed
    first = None if missing and _is_taken(observed, broken) else stall.cause_of(broken)
    living = [pod for pod in mine if not pod.ended]
    if living:
        stopping = stall.reason(first, Reason.GANG_STOPPING)
        decision = waiting(Goal.RESTART, stopping, _why(job, first), living, now)
        return replace(decision, delete=_survivors(tuple(mine), first))
    if first is None:
        return _again(Verdict.PREEMPTED, next_attempt(job, Reason.PODS_GONE, now))
    return _judge(job, attempt, observed, first, now)


def _is_taken(observed: Observed, broken: list[Pod]) -> bool:
    """Whether the pod that is missing was the first to go. Then the others ended for want of it, however they did:
    their connections broke, or their grace was over before they had saved.

    Who did not see it go takes it for the first unless one had ended before it was told to go.
    """
    return observed.trainer_vanished or all(pod.terminating for pod in broken)


def _survivors(mine: tuple[Pod, ...], first: Pod | None) -> tuple[Pod, ...]:
    """Those that are still to be told to go; with all of their time if the first to go saved together with them."""
    rest = to_stop(mine)
    if first is not None and obeyed(first):
        return rest
    return tuple(replace(pod, grace_seconds=_shortened(pod.grace_seconds)) for pod in rest)


def _shortened(seconds: int | None) -> int:
    return SURVIVORS_SECONDS if seconds is None else min(seconds, SURVIVORS_SECONDS)


def _wait_for_choice(observed: Observed, cause: Pod, now: float) -> Decision:
    """The pods go, the servers' too: whoever has to choose may take days."""
    reason = Reason.EXACTNESS_UNMET
    back = GivenBack(reason.value, times.to_text(now))
    return Decision(Goal.WAIT, reason, words(cause), delete=to_stop(observed.pods), give_back=back)


def _why(job: RLJob, cause: Pod | None) -> str:
    said = stall.sentence(job, cause).rstrip(". ") if cause else "a trainer pod is gone"
    return f"The trainer gang restarts: {said}."


def _judge(job: RLJob, attempt: AttemptStatus, observed: Observed, cause: Pod, now: float) -> Decision:
    """The whole gang has ended; `cause` was first."""
    policy = job.spec.failure_policy
    found = verdict(policy, cause)
    if found is Verdict.PREEMPTED:
        return _again(found, next_attempt(job, found.reason, now))
    if found.fatal:
        return fail(observed, found.reason, stall.sentence(job, cause), failure(job, cause, now))
    counted = job.status.restarts_count_towards_max if job.status else 0
    if found is Verdict.COUNTED and counted >= policy.max_restarts:
        spent = f"(after {many(counted, 'restart')}; failurePolicy.maxRestarts is {policy.max_restarts})"
        message = f"{stall.sentence(job, cause)} {spent}"
        return fail(observed, Reason.MAX_RESTARTS_EXCEEDED, message, failure(job, cause, now))
    return _after_pause(job, attempt, cause, found, now)


def _after_pause(job: RLJob, attempt: AttemptStatus, cause: Pod, found: Verdict, now: float) -> Decision:
    in_a_row = 1 if _finished_a_step(job, attempt) else attempt.failures_in_a_row + 1
    due = (cause.finished_at or now) + pause(job.spec.failure_policy.backoff_seconds, in_a_row)
    noted = (failure(job, cause, now),)
    if now >= due:
        begin = next_attempt(job, stall.reason(cause, found.reason), now, in_a_row, cause)
        return replace(_again(found, begin), failures=noted, message=_why(job, cause))
    unusable = found is Verdict.VOLUME_UNUSABLE
    message = f"The trainer gang restarts at {times.to_text(due)}: {stall.sentence(job, cause)}"
    why = stall.reason(cause, found.reason if unusable else Reason.BACK_OFF)
    return Decision(Goal.RESTART, why, message, failures=noted, wake_at=due)


ENDED = {
    Verdict.PREEMPTED: Ended.PREEMPTED,
    Verdict.IGNORED: Ended.IGNORED,
    Verdict.VOLUME_UNUSABLE: Ended.IGNORED,
}
"""Verdicts that are not counted."""


def _again(found: Verdict, begin: AttemptStatus) -> Decision:
    return Decision(Goal.RESTART, begin.reason, begin=begin, ended=ENDED.get(found, Ended.COUNTED))


def _finished_a_step(job: RLJob, attempt: AttemptStatus) -> bool:
    """Whether this attempt got further than where it began; unknown counts as no."""
    step = job.status.progress.step if job.status else 0
    return attempt.from_step is not None and step > attempt.from_step
