"""The rollout servers: each replica is one slot that always gets a pod again, whatever the trainers do.

A replica that failed is deleted and counted in one pass; its successor comes when the pod is gone and the pause over.
One that somebody else deleted is known by what the status noted of it: its pod may be gone without a trace.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from rljob_api.base import many
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.progress import BrokenReplica
from rljob_api.reasons import Reason
from rljob_api.status import Replacement

from .. import names, times
from ..observed import Observed, Pod
from .backoff import pause
from .decision import Decision, Goal, PodStart, also
from .finish import fail
from .placement import short_of_room
from .silence import waiting
from .verdict import Verdict, failure, sentence, verdict

NOTHING = Decision(Goal.RUN, "")


def rollouts(job: RLJob, observed: Observed, now: float, *, pinned: bool) -> Decision:
    """`pinned`: this pass creates the ConfigMap of the present attempt, which new servers mount.

    Where room is short, the attempt first starts with `minReplicas` alone; the others come when they can.
    """
    rollout = job.spec.rollout
    wanted = rollout.min_replicas if pinned and short_of_room(job, observed) else rollout.replicas
    by_index = _by_index(observed)
    slots = [_slot(job, observed, index, by_index[index], now) for index in range(wanted)]
    fatal = next((slot for slot in slots if slot.goal is Goal.FAIL), None)
    if fatal is not None:
        return fatal
    surplus = [pod for pod in observed.role(RoleName.ROLLOUT) if pod.index >= rollout.replicas]
    silent = waiting(Goal.RUN, "", "", observed.role(RoleName.ROLLOUT), now)
    decision = also(Decision(Goal.RUN, "", delete=_not_yet_deleted(surplus)), *slots, silent)
    return decision if pinned or _is_pinned(job, observed) else replace(decision, start=())


def _by_index(observed: Observed) -> dict[int, list[Pod]]:
    found: dict[int, list[Pod]] = defaultdict(list)
    for pod in observed.role(RoleName.ROLLOUT):
        found[pod.index].append(pod)
    return found


def _slot(job: RLJob, observed: Observed, index: int, pods: list[Pod], now: float) -> Decision:
    if _is_taken(job, index, pods):
        return Decision(Goal.RUN, "", replacements=(_next(job, index, now, 0),))
    if not pods:
        return _fill(job, index, now)
    present = names.rollout_pod(job.metadata.name, index, replacement(job, index).serial)
    for pod in pods:
        if pod.terminating:
            continue
        if pod.name != present:  # its end was counted in the pass before
            return Decision(Goal.RUN, "", delete=(pod,))
        if pod.ended:
            return _replace(job, observed, pod, now)
        if report := _given_up(observed, pod):
            return _replace_broken(job, observed, pod, report, now)
    return NOTHING


def _is_taken(job: RLJob, index: int, pods: list[Pod]) -> bool:
    """Its pod was deleted, and not by us: what we delete is noted as gone before it is."""
    known = job.status.rollout.present if job.status else []
    return index in known and all(pod.terminating for pod in pods)


def _fill(job: RLJob, index: int, now: float) -> Decision:
    """A pod for an empty slot, once its pause is over."""
    before = replacement(job, index)
    due = times.to_seconds(before.not_before) if before.not_before else 0.0
    if now < due:
        return Decision(Goal.RUN, "", wake_at=due)
    name = names.rollout_pod(job.metadata.name, index, before.serial)
    return Decision(Goal.RUN, "", start=(PodStart(RoleName.ROLLOUT, index, name),))


def _replace(job: RLJob, observed: Observed, pod: Pod, now: float) -> Decision:
    """A server never ends of itself: whatever its exit code, it is replaced, or fails the job."""
    policy = job.spec.failure_policy
    found = verdict(policy, pod)
    if found.fatal:
        return fail(observed, found.reason, sentence(job, pod), failure(job, pod, now))
    if found is Verdict.PREEMPTED:
        return Decision(Goal.RUN, "", delete=(pod,), replacements=(_next(job, pod.index, now, 0),))
    in_a_row = _failures_in_a_row(job, pod.index)
    if found is Verdict.COUNTED and in_a_row > policy.max_restarts:
        spent = f"({many(in_a_row, 'failure')} in a row; failurePolicy.maxRestarts is {policy.max_restarts})"
        message = f"{sentence(job, pod)} {spent}"
        return fail(observed, Reason.MAX_RESTARTS_EXCEEDED, message, failure(job, pod, now))
    return Decision(
        Goal.RUN,
        "",
        delete=(pod,),
        failures=(failure(job, pod, now),),
        replacements=(_next(job, pod.index, now, in_a_row),),
    )


def _given_up(observed: Observed, pod: Pod) -> BrokenReplica | None:
    """The trainer's complaint about this very server, not about one before it."""
    reports = observed.progress.broken_replicas if observed.progress else []
    return next((one for one in reports if one.index == pod.index and _older(pod, one)), None)


def _older(pod: Pod, report: BrokenReplica) -> bool:
    return pod.started_at is not None and pod.started_at < times.to_seconds(report.since)


def _replace_broken(job: RLJob, observed: Observed, pod: Pod, report: BrokenReplica, now: float) -> Decision:
    in_a_row = _failures_in_a_row(job, pod.index)
    policy = job.spec.failure_policy
    noted = failure(job, pod, now).model_copy(update={"message": report.reason})
    if in_a_row > policy.max_restarts:
        message = f"rollout {pod.index} was given up by the trainer {many(in_a_row, 'time')} in a row: {report.reason}"
        return fail(observed, Reason.MAX_RESTARTS_EXCEEDED, message, noted)
    return Decision(
        Goal.RUN, "", delete=(pod,), failures=(noted,), replacements=(_next(job, pod.index, now, in_a_row),)
    )


def replacement(job: RLJob, index: int) -> Replacement:
    """What the status remembers of the replica."""
    known = job.status.rollout.replacements if job.status else []
    return next((one for one in known if one.index == index), Replacement(index=index, serial=0))


def _failures_in_a_row(job: RLJob, index: int) -> int:
    before = replacement(job, index)
    progressed = before.failures_in_a_row > 0 and _step(job) > before.step
    return 1 if progressed else before.failures_in_a_row + 1


def _next(job: RLJob, index: int, now: float, in_a_row: int) -> Replacement:
    due = now + pause(job.spec.failure_policy.backoff_seconds, in_a_row)
    return Replacement(
        index=index,
        serial=replacement(job, index).serial + 1,
        failures_in_a_row=in_a_row,
        step=_step(job),
        not_before=times.to_text(due) if in_a_row else "",
    )


def _step(job: RLJob) -> int:
    return job.status.progress.step if job.status else 0


def _is_pinned(job: RLJob, observed: Observed) -> bool:
    attempt = job.attempt
    return attempt is not None and attempt.run_config_map_name in observed.run_config_maps


def _not_yet_deleted(pods: list[Pod]) -> tuple[Pod, ...]:
    return tuple(pod for pod in pods if not pod.terminating)
