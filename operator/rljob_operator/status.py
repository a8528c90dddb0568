"""`status(job, observed, decision, now)`: what users are told. Pure; equal to the last one if nothing changed."""

from __future__ import annotations

from rljob_api.exactness import unreachable
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.progress import SETTING_UP, Progress, TrainPhase
from rljob_api.reasons import Reason
from rljob_api.status import (
    AttemptStatus,
    CheckpointStatus,
    Failure,
    Metric,
    Phase,
    ProgressStatus,
    Replacement,
    RoleStatus,
    RolloutStatus,
    Status,
)

from . import names, times
from .conditions import conditions
from .decide import Decision, Ended, Goal
from .decide.finish import waited_for
from .decide.hindrance import in_the_way
from .decide.unheard import unheard
from .goodput import account
from .new_rules import broken_since
from .observed import Observed, Pod
from .time_use import seen

FAILURES_KEPT = 5
TOLD = (*SETTING_UP, TrainPhase.WAIT)
"""Phases of which it is news what they are busy with."""


def status(job: RLJob, observed: Observed, decision: Decision, now: float) -> Status:
    """The status after this pass. `observed` is what was decided by, but with what the cluster refused since."""
    before = job.status or Status()
    attempt = _attempt(before, observed.progress, decision)
    completed = _completion(before, observed, decision, now)
    hindrance, broken = in_the_way(job, observed, decision, now), broken_since(job, decision)
    facts = before.model_copy(
        update={
            "observed_generation": job.metadata.generation,
            "message": decision.message
            or (hindrance.message if hindrance else unheard(job, observed, now))
            or broken
            or _waits(attempt, observed.progress, decision)
            or _warning(job, decision),
            "backend": job.spec.chosen_backend.value,
            "attempt": attempt,
            "trainer": _trainer(job, before, observed, decision, over=bool(completed)),
            "rollout": _rollout(job, before, observed, decision, over=bool(completed)),
            "progress": _progress(job, before.progress, observed, attempt, now),
            "checkpoint": _checkpoint(before.checkpoint, observed.progress),
            "failures": _failures(before.failures, decision.failures),
            "completion_time": completed,
            **_clocks(before, observed.progress, decision, now),
            **_restarts(before, decision),
        }
    )
    phase = _phase(facts, observed, decision)
    new = facts.model_copy(
        update={
            "phase": phase,
            "conditions": conditions(
                job, facts, observed, decision, now, hindrance=hindrance, broken_rules=broken
            ),
        }
    )
    if new == before:
        return new  # time that passed is no news by itself: it is counted when there is some
    spent = account(before.goodput, seen(job, observed, decision, now), now)
    return new.model_copy(update={"goodput": spent})


def _attempt(before: Status, progress: Progress | None, decision: Decision) -> AttemptStatus | None:
    if decision.begin is not None:
        return decision.begin
    attempt = before.attempt
    if attempt is not None and (back := decision.give_back) is not None:
        return attempt.model_copy(update={"given_back_time": back.time, "given_back_reason": back.reason})
    if attempt is None or progress is None or progress.attempt != attempt.number:
        return attempt
    if resumed := progress.resumed:
        found = {
            "from_step": resumed.from_step,
            "lost_steps": resumed.lost_steps,
            "exactness": resumed.exactness,
        }
        return attempt.model_copy(update=found)
    if not attempt.has_begun and _looked(progress):
        return attempt.model_copy(update={"from_step": 0})
    return attempt


def _trainer(job: RLJob, before: Status, observed: Observed, decision: Decision, *, over: bool) -> RoleStatus:
    number = before.attempt.number if before.attempt else 0
    pods = [pod for pod in observed.role(RoleName.TRAINER) if pod.attempt == number]
    restarted = 1 if decision.ended else 0
    wanted = 0 if over else job.spec.trainer.num_nodes
    return RoleStatus(**_counts(wanted, pods, before.trainer.restarts + restarted))


def _rollout(
    job: RLJob, before: Status, observed: Observed, decision: Decision, *, over: bool
) -> RolloutStatus:
    progress, wanted = observed.progress, 0 if over else job.spec.rollout.replicas
    restarts = before.rollout.restarts + len(decision.replacements)
    return RolloutStatus(
        **_counts(wanted, list(observed.role(RoleName.ROLLOUT)), restarts),
        selector=names.selector(names.role_labels(job.metadata.name, RoleName.ROLLOUT)),
        weight_version=progress.weight_version if progress else before.rollout.weight_version,
        transport=(progress.transport if progress else "") or before.rollout.transport,
        present=_present(observed, decision),
        replacements=_replacements(before.rollout.replacements, decision.replacements),
    )


def _present(observed: Observed, decision: Decision) -> list[int]:
    stay = [pod for pod in observed.role(RoleName.ROLLOUT) if pod not in decision.delete]
    return sorted({pod.index for pod in stay if not pod.ended and not pod.terminating})


def _counts(wanted: int, pods: list[Pod], restarts: int) -> dict[str, int | str]:
    running = [pod for pod in pods if not pod.ended]
    ready = sum(pod.ready and not pod.terminating for pod in running)
    return {
        "replicas": len(running),
        "ready_replicas": ready,
        "ready": f"{ready}/{wanted}",
        "restarts": restarts,
    }


def _replacements(before: list[Replacement], new: tuple[Replacement, ...]) -> list[Replacement]:
    by_index = {one.index: one for one in [*before, *new]}
    return [by_index[index] for index in sorted(by_index)]


def _progress(
    job: RLJob, before: ProgressStatus, observed: Observed, attempt: AttemptStatus | None, now: float
) -> ProgressStatus:
    new = _heard(before, observed.progress) if observed.progress else _not_heard(job, before)
    if _past(observed, attempt):
        done = new.phase if new.phase == TrainPhase.DONE else ""
        new = new.model_copy(update={"phase": done, "detail": "", "estimated_remaining_seconds": None})
    if new == before or observed.progress is None:
        return new
    return new.model_copy(update={"last_updated_time": times.to_text(now)})


def _past(observed: Observed, attempt: AttemptStatus | None) -> bool:
    """Whether who told of the phase does not run any more."""
    told = observed.progress
    if (
        told is not None
        and attempt is not None
        and (told.attempt < attempt.number or observed.converted(told))
    ):
        return True
    return all(pod.ended for pod in observed.role(RoleName.TRAINER))


def _heard(before: ProgressStatus, progress: Progress) -> ProgressStatus:
    remaining = progress.estimated_remaining_seconds
    # Until an attempt has looked for its checkpoint, what the one before told is nearer to the truth than 0.
    step = progress.step if _looked(progress) else before.step
    metrics = [Metric(name=name, value=f"{value:.6g}") for name, value in sorted(progress.metrics.items())]
    return ProgressStatus(
        step=step,
        total_steps=progress.total_steps,
        display=f"{step}/{progress.total_steps}",
        phase=progress.phase.value,
        detail=progress.detail if progress.phase in TOLD else "",
        estimated_remaining_seconds=None if remaining is None else int(remaining),
        metrics=metrics or before.metrics,
        last_updated_time=before.last_updated_time,
    )


def _not_heard(job: RLJob, before: ProgressStatus) -> ProgressStatus:
    """An edit counts from the next attempt on: the one that runs goes to where it was told to."""
    edited = job.attempt is not None and job.attempt.generation != job.metadata.generation
    total = before.total_steps if edited and before.total_steps else job.spec.algorithm.grpo.max_steps
    return before.model_copy(update={"total_steps": total, "display": f"{before.step}/{total}"})


def _checkpoint(before: CheckpointStatus, progress: Progress | None) -> CheckpointStatus:
    """Keeps what was known while an attempt has not looked yet."""
    if progress is None or (progress.checkpoint is None and not _looked(progress)):
        return before
    seconds = before.save_seconds if progress.save_seconds is None else progress.save_seconds
    return CheckpointStatus(latest=progress.checkpoint, count=progress.checkpoint_count, save_seconds=seconds)


def _looked(progress: Progress) -> bool:
    """Whether the attempt has looked for a checkpoint to go on from.

    One that waits may wait for its first servers, which it must know before it can say how it goes on.
    """
    return progress.resumed is not None or progress.phase not in (*SETTING_UP, TrainPhase.WAIT)


def _failures(before: list[Failure], new: tuple[Failure, ...]) -> list[Failure]:
    """The newest five; one that was noted in an earlier pass is not noted twice."""
    return [*before, *(one for one in new if one not in before)][-FAILURES_KEPT:]


def _restarts(before: Status, decision: Decision) -> dict[str, int]:
    ended = decision.ended
    return {
        "restarts": before.restarts + (ended is not None),
        "restarts_count_towards_max": before.restarts_count_towards_max + (ended is Ended.COUNTED),
        "preemptions": before.preemptions + (ended is Ended.PREEMPTED),
    }


def _clocks(before: Status, progress: Progress | None, decision: Decision, now: float) -> dict[str, str]:
    """What deadlines count from: both start anew with the job and with a resume."""
    begin = decision.begin
    if begin is not None and begin.reason in (Reason.FIRST_ATTEMPT, Reason.RESUMED):
        return {"start_time": times.to_text(now), "running_time": ""}
    trains = before.attempt is not None and _trains(before.attempt, progress)
    running = before.running_time or (times.to_text(now) if trains else "")
    return {"start_time": before.start_time, "running_time": running}


def _trains(attempt: AttemptStatus, progress: Progress | None) -> bool:
    """Whether the attempt has got past its preparations; as the status knows, while nobody tells."""
    if progress is None or progress.attempt != attempt.number:
        return attempt.has_begun
    return progress.phase not in SETTING_UP


def _completion(before: Status, observed: Observed, decision: Decision, now: float) -> str:
    """Set when the job is over and no trainer is waited for any more. It stays, also when a lost node comes back."""
    if decision.goal not in (Goal.COMPLETE, Goal.FAIL):
        return ""
    return before.completion_time or ("" if waited_for(observed, now) else times.to_text(now))


def _waits(attempt: AttemptStatus | None, progress: Progress | None, decision: Decision) -> str:
    """That training waits for rollout servers, and for how many: theirs may be starting, or in the pause before."""
    if progress is None or attempt is None or progress.attempt != attempt.number:
        return ""
    waits = decision.goal is Goal.RUN and progress.phase is TrainPhase.WAIT and progress.detail
    return f"Training waits: {progress.detail}." if waits else ""


def _warning(job: RLJob, decision: Decision) -> str:
    """What will be in the way of the first restart."""
    return unreachable(job.spec) if decision.goal is Goal.RUN else ""


PHASES = {
    Goal.COMPLETE: Phase.COMPLETE,
    Goal.FAIL: Phase.FAILED,
    Goal.SUSPEND: Phase.SUSPENDING,
    Goal.SUSPENDED: Phase.SUSPENDED,
    Goal.RESTART: Phase.RESTARTING,
    Goal.WAIT: Phase.PENDING,
}


def _phase(facts: Status, observed: Observed, decision: Decision) -> Phase:
    return PHASES.get(decision.goal) or _running_phase(facts, observed)


def _running_phase(facts: Status, observed: Observed) -> Phase:
    attempt = facts.attempt
    if attempt is None or not observed.pods:
        return Phase.PENDING
    if any(pod.initializing for pod in observed.role(RoleName.TRAINER) if pod.attempt == attempt.number):
        return Phase.CONVERTING
    return Phase.TRAINING if _trains(attempt, observed.progress) else Phase.STARTING
