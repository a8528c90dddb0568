"""The end of a job whose last trainer sits on a silent node: it is told, and not waited for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import NOW, a_job, a_rollout, a_status, a_trainer, failed, seen, true
from rljob_api.status import Condition, ConditionType, Status
from rljob_operator import times
from rljob_operator.decide import Decision, Goal, decide
from rljob_operator.observed import Observed
from rljob_operator.status import status

ADVICE = "delete it (`kubectl delete node gpu-17`) or taint it node.kubernetes.io/out-of-service="
TO_FAIL = a_status(conditions=[true(ConditionType.FAILURE_TARGET)])


def silent(index: int = 0, late: float = 30, **facts: Any) -> Any:
    """Told to go so long ago that its grace was over `late` seconds ago."""
    return a_trainer(index, terminating=True, gone_by=NOW - late, node="gpu-17", **facts)


def after(before: Status, observed: Observed, now: float = NOW, **spec: Any) -> tuple[Decision, Status]:
    """What a pass decides, and tells."""
    job = a_job(before, **spec)
    decision = decide(job, observed, now)
    return decision, status(job, observed, decision, now)


def condition(found: Status, kind: ConditionType) -> Condition:
    return next(one for one in found.conditions if one.type is kind)


def test_failed_comes_as_soon_as_the_node_is_lost_and_both_conditions_name_it() -> None:
    decision, told = after(TO_FAIL, seen(silent()))
    failed = condition(told, ConditionType.FAILED)
    assert (failed.status, failed.reason, told.completion_time) == ("True", "Because", times.to_text(NOW))
    assert failed.message == condition(told, ConditionType.FAILURE_TARGET).message == told.message
    assert failed.message.startswith(
        "why Node gpu-17 was silent, so the end of demo-trainer-0-1 was not waited for."
    )
    assert ADVICE in failed.message
    assert (decision.goal, decision.start, decision.begin) == (Goal.FAIL, (), None)


def test_until_then_the_trainer_may_save_and_a_look_is_due_when_it_is_overdue() -> None:
    decision, told = after(TO_FAIL, seen(silent(late=29)))
    assert condition(told, ConditionType.FAILED).status == "False"
    assert (decision.message, decision.wake_at) == ("why", NOW + 1)


@pytest.mark.parametrize(("ttl", "wake_at"), [(0, NOW), (600, NOW + 1)])
def test_a_time_to_live_takes_no_look_away(ttl: int, wake_at: float) -> None:
    decision, _ = after(TO_FAIL, seen(silent(late=29)), ttlSecondsAfterFinished=ttl)
    assert (decision.wake_at, decision.delete_job) == (wake_at, False)


def test_trainers_elsewhere_are_waited_for_and_one_that_ended_is_not() -> None:
    """A save may take the whole grace period, which both were given."""
    saving = a_trainer(1, terminating=True, gone_by=NOW + 600, node="gpu-18")
    decision, told = after(TO_FAIL, seen(silent(), saving))
    assert condition(told, ConditionType.FAILED).status == "False"
    assert (decision.message, decision.wake_at) == ("why", NOW + 630)
    _, told = after(TO_FAIL, seen(silent(), a_trainer(1, **failed(143))))
    assert condition(told, ConditionType.FAILED).status == "True"


def test_of_several_lost_pods_the_first_is_named_and_the_others_are_counted() -> None:
    decision, _ = after(TO_FAIL, seen(silent(0), silent(1), silent(2)))
    assert "the end of demo-trainer-0-1 was not waited for (nor that of 2 more)." in decision.message


def test_a_server_on_a_silent_node_is_in_nobodys_way() -> None:
    server = a_rollout(terminating=True, gone_by=NOW - 30, node="gpu-17")
    decision, told = after(TO_FAIL, seen(a_trainer(**failed(1)), server))
    assert (condition(told, ConditionType.FAILED).status, decision.message) == ("True", "why")


@pytest.mark.parametrize("later", [(), (silent(late=90),), (a_trainer(**failed(143)),)])
def test_what_was_told_then_stays_whatever_becomes_of_the_node(later: tuple[Any, ...]) -> None:
    _, first = after(TO_FAIL, seen(silent()))
    _, again = after(first, seen(*later), NOW + 60)
    assert again.conditions == first.conditions
    assert (again.message, again.completion_time) == (first.message, first.completion_time)


def test_a_node_that_is_back_brings_no_trainer_back_to_life() -> None:
    """Its kubelet hears that the pod has to go; until it has, nothing of a job that failed is taken back."""
    _, first = after(TO_FAIL, seen(silent()))
    back = replace(silent(), gone_by=NOW + 60)
    decision, again = after(first, seen(back), NOW + 60)
    assert condition(again, ConditionType.FAILED).status == "True"
    assert (decision.delete, decision.wake_at) == ((), None)
