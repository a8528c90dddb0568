"""Deadlines, and the deletion of a job that is over."""

from __future__ import annotations

from typing import Any

import pytest

from builders import NOW, a_job, a_rollout, a_status, a_trainer, complete, failed, seen, true
from rljob_api.status import ConditionType
from rljob_operator import times
from rljob_operator.decide import Decision, Goal, decide


def after(age: float, running: bool = False, suspend: bool = False, **spec: Any) -> Decision:
    """A job that started `age` seconds ago."""
    status = a_status(
        start_time=times.to_text(NOW - age),
        running_time=times.to_text(NOW - 1) if running else "",
        message="needs 4 GPUs",
    )
    return decide(a_job(status, suspend=suspend, **spec), seen(a_trainer(), a_rollout()), NOW)


@pytest.mark.parametrize("running", [True, False])
def test_a_job_that_takes_too_long_fails_and_its_trainers_may_save(running: bool) -> None:
    decision = after(60, running, activeDeadlineSeconds=60)
    assert (decision.goal, decision.reason) == (Goal.FAIL, "DeadlineExceeded")
    assert [pod.name for pod in decision.delete] == ["demo-trainer-0-1", "demo-rollout-0-0"]


def test_until_then_it_runs_and_the_deadline_is_looked_out_for() -> None:
    decision = after(50, activeDeadlineSeconds=60, preRunningDeadlineSeconds=55)
    assert (decision.goal, decision.wake_at) == (Goal.RUN, NOW + 5)


def test_a_job_that_never_trained_fails_earlier_and_says_what_it_waited_for() -> None:
    decision = after(60, preRunningDeadlineSeconds=60)
    assert (decision.goal, decision.reason) == (Goal.FAIL, "PreRunningDeadlineExceeded")
    assert decision.message.endswith("Last seen: needs 4 GPUs")


def test_once_it_trains_it_may_take_its_time() -> None:
    decision = after(6000, running=True, preRunningDeadlineSeconds=60)
    assert (decision.goal, decision.wake_at) == (Goal.RUN, None)


def test_a_suspended_job_has_all_the_time_in_the_world() -> None:
    assert after(6000, suspend=True, activeDeadlineSeconds=60).goal is Goal.SUSPEND


@pytest.mark.parametrize("kind", [ConditionType.COMPLETE, ConditionType.FAILURE_TARGET])
@pytest.mark.parametrize(("ago", "deleted", "wake_at"), [(59, False, NOW + 1), (60, True, None)])
def test_a_job_that_is_over_is_deleted_after_its_time_to_live(
    kind: ConditionType, ago: float, deleted: bool, wake_at: float | None
) -> None:
    status = a_status(conditions=[true(kind)], completion_time=times.to_text(NOW - ago))
    decision = decide(a_job(status, ttlSecondsAfterFinished=60), seen(), NOW)
    assert (decision.delete_job, decision.wake_at) == (deleted, wake_at)


def test_it_stays_while_its_trainers_stop() -> None:
    status = a_status(conditions=[true(ConditionType.FAILURE_TARGET)])
    job = a_job(status, ttlSecondsAfterFinished=0)
    assert not decide(job, seen(a_trainer(terminating=True)), NOW).delete_job


def test_without_such_a_time_it_stays_for_ever() -> None:
    ended = times.to_text(NOW - 1e6)
    status = a_status(conditions=[true(ConditionType.COMPLETE)], completion_time=ended)
    decision = decide(a_job(status), seen(), NOW)
    assert (decision.delete_job, decision.wake_at) == (False, None)


def test_the_pass_that_sees_the_end_looks_out_for_the_deletion_for_no_change_may_follow() -> None:
    job = a_job(a_status(), ttlSecondsAfterFinished=60)
    decision = decide(job, seen(a_trainer(**complete())), NOW)
    assert (decision.goal, decision.wake_at) == (Goal.COMPLETE, NOW + 60)


def test_after_the_end_servers_go_and_trainers_stay_to_be_read() -> None:
    status = a_status(conditions=[true(ConditionType.COMPLETE)])
    pods = (a_trainer(**failed(0)), a_rollout(0), a_rollout(1, **failed(0)))
    assert [pod.name for pod in decide(a_job(status), seen(*pods), NOW).delete] == [
        "demo-rollout-0-0",
        "demo-rollout-1-0",
    ]
