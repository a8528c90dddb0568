"""Rollout servers: each is replaced alone, whatever the trainers do."""

from __future__ import annotations

from typing import Any

import pytest

from builders import NOW, a_job, a_progress, a_rollout, a_status, a_trainer, failed, last_words, seen
from rljob_api.progress import BrokenReplica, Ending, Progress
from rljob_api.status import ProgressStatus, Replacement, RolloutStatus, Status
from rljob_operator import times
from rljob_operator.decide import Decision, Goal, decide
from rljob_operator.observed import Pod


def after(
    *pods: Pod, status: Status | None = None, progress: Progress | None = None, **spec: Any
) -> Decision:
    return decide(a_job(status or a_status(), **spec), seen(a_trainer(), *pods, progress=progress), NOW)


def known(*replacements: Replacement, step: int = 0) -> Status:
    return a_status(
        rollout=RolloutStatus(replacements=list(replacements)), progress=ProgressStatus(step=step)
    )


def test_a_dead_server_is_cleared_away_and_counted_and_nothing_else_is_touched() -> None:
    decision = after(a_rollout(0, **failed(1)), a_rollout(1), rollout={"replicas": 2})
    assert [pod.name for pod in decision.delete] == ["demo-rollout-0-0"]
    assert decision.start == ()
    expected = Replacement(index=0, serial=1, failures_in_a_row=1, step=0, not_before=times.to_text(NOW + 10))
    assert decision.replacements == (expected,)
    assert [failure.role for failure in decision.failures] == ["rollout"]


@pytest.mark.parametrize(("late", "starts"), [(-1, []), (0, ["demo-rollout-0-1"])])
def test_its_successor_comes_when_the_pause_is_over(late: int, starts: list[str]) -> None:
    status = known(Replacement(index=0, serial=1, failures_in_a_row=1, not_before=times.to_text(NOW - late)))
    decision = after(status=status)
    assert [start.name for start in decision.start] == starts
    assert decision.wake_at == (None if starts else NOW + 1)


@pytest.mark.parametrize("left", [(), (a_rollout(terminating=True),)], ids=["gone", "told to go"])
def test_a_server_that_somebody_deleted_is_counted_and_is_no_failure(left: tuple[Pod, ...]) -> None:
    decision = after(*left, status=a_status(rollout=RolloutStatus(present=[0])))
    assert decision.replacements == (Replacement(index=0, serial=1),)
    assert (decision.start, decision.delete, decision.failures) == ((), (), ())


def test_its_successor_waits_until_it_is_gone() -> None:
    decision = after(a_rollout(terminating=True), status=known(Replacement(index=0, serial=1)))
    assert (decision.start, decision.delete) == ((), ())


@pytest.mark.parametrize(
    ("step", "in_a_row"), [(5, 3), (6, 1)], ids=["no step since: it grows", "a step since: it starts over"]
)
def test_failures_in_a_row(step: int, in_a_row: int) -> None:
    status = known(Replacement(index=0, serial=2, failures_in_a_row=2, step=5), step=step)
    (replacement,) = after(a_rollout(serial=2, **failed(1)), status=status).replacements
    assert (replacement.failures_in_a_row, replacement.serial) == (in_a_row, 3)


def test_too_many_failures_in_a_row_fail_the_job() -> None:
    status = known(Replacement(index=0, serial=3, failures_in_a_row=3))
    decision = after(a_rollout(serial=3, **failed(1)), status=status)
    assert (decision.goal, decision.reason) == (Goal.FAIL, "MaxRestartsExceeded")
    assert [pod.name for pod in decision.delete] == ["demo-trainer-0-1"]


def test_a_server_without_room_on_the_volume_is_tried_again_and_never_fails_the_job() -> None:
    status = known(Replacement(index=0, serial=9, failures_in_a_row=9))
    full = last_words(Ending.VOLUME_UNUSABLE, exit_code=5, message="the volume is full")
    decision = after(a_rollout(serial=9, **failed(5, words=full)), status=status)
    (replacement,) = decision.replacements
    assert (decision.goal, replacement.not_before) == (Goal.RUN, times.to_text(NOW + 300))


def test_a_preempted_server_comes_back_at_once_and_is_no_failure() -> None:
    decision = after(a_rollout(**failed(143)))
    assert decision.failures == ()
    assert decision.replacements == (Replacement(index=0, serial=1),)


def test_a_mistake_fails_the_job() -> None:
    assert after(a_rollout(**failed(2))).goal is Goal.FAIL


@pytest.mark.parametrize(
    ("started", "deleted"), [(-1, ["demo-rollout-0-0"]), (1, [])], ids=["older", "younger than the complaint"]
)
def test_a_server_that_the_trainer_gave_up(started: float, deleted: list[str]) -> None:
    report = BrokenReplica(index=0, since=times.to_text(NOW), reason="it answers nonsense")
    progress = a_progress(broken_replicas=[report])
    decision = after(a_rollout(started_at=NOW + started), progress=progress)
    assert [pod.name for pod in decision.delete] == deleted
    assert [failure.message for failure in decision.failures] == ["it answers nonsense"] * len(deleted)


def test_servers_are_replaced_while_the_gang_pauses() -> None:
    observed = seen(a_trainer(**failed(1)), progress=None)
    decision = decide(a_job(a_status()), observed, NOW)
    assert decision.goal is Goal.RESTART
    assert [start.name for start in decision.start] == ["demo-rollout-0-0"]


def test_surplus_servers_go() -> None:
    decision = after(a_rollout(0), a_rollout(1))
    assert [pod.name for pod in decision.delete] == ["demo-rollout-1-0"]


def test_no_server_starts_before_its_config_is_pinned() -> None:
    observed = seen(a_trainer(attempt=1), pinned=1)
    decision = decide(a_job(a_status(2)), observed, NOW)
    assert decision.start == ()


def test_a_server_on_a_silent_node_is_told_of() -> None:
    decision = after(a_rollout(0, terminating=True, gone_by=NOW - 30, node="gpu-17"), a_rollout(1))
    assert decision.goal is Goal.RUN
    assert "Node gpu-17 is silent" in decision.message
