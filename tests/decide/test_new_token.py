"""A job's token that was deleted while pods have it: all of them stop before any starts with another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import NOW, a_job, a_rollout, a_status, a_trainer, failed, seen
from rljob_api.status import Condition, ConditionType, Status
from rljob_operator.decide import Decision, Goal, decide
from rljob_operator.observed import Observed, Pod, PodPhase, Refusal
from rljob_operator.render import missing
from rljob_operator.settings import Settings

REFUSAL = Refusal("Secret", "demo-control-1111-222", 404, "ControlSecretGone", "it was deleted", NOW)
TOLD = a_status(
    conditions=[
        Condition(
            type=ConditionType.PROGRESSING,
            status="False",
            reason="ControlSecretGone",
            message="it was deleted",
        )
    ]
)


def after(observed: Observed, before: Status | None = None, refusal: Refusal | None = None) -> Decision:
    return decide(a_job(before or a_status()), replace(observed, refusal=refusal), NOW)


def test_once_a_pod_cannot_start_beside_them_all_are_told_to_go() -> None:
    decision = after(seen(a_trainer(), a_rollout(1)), refusal=REFUSAL)
    assert (decision.goal, decision.reason) == (Goal.RESTART, "ControlSecretGone")
    assert decision.message == "it was deleted"
    assert [pod.name for pod in decision.delete] == ["demo-trainer-0-1", "demo-rollout-1-0"]
    assert decision.start == ()


def test_none_starts_while_one_is_on_its_way_out() -> None:
    saving = a_trainer(terminating=True, gone_by=NOW + 60)
    decision = after(seen(saving), TOLD)
    assert (decision.reason, decision.message, decision.start) == ("ControlSecretGone", "it was deleted", ())
    assert decision.wake_at == NOW + 90


def test_also_while_a_silent_node_keeps_one_which_is_told() -> None:
    silent = a_trainer(terminating=True, gone_by=NOW - 30, node="gpu-17")
    decision = after(seen(silent), TOLD)
    assert (decision.reason, decision.start) == ("ControlSecretGone", ())
    assert "kubectl delete node gpu-17" in decision.message


def test_when_the_last_has_ended_the_next_attempt_begins_and_no_failure_is_counted() -> None:
    decision = after(seen(a_trainer(**failed(143), disrupted=True)), TOLD)
    assert decision.begin is not None
    assert (decision.begin.number, decision.ended) == (2, "Preempted")


def test_new_pods_are_left_alone_though_the_status_tells_of_the_old_ones_yet() -> None:
    """An operator may die when it has made them, before it has told so."""
    decision = after(seen(a_trainer(), a_rollout()), TOLD)
    assert (decision.goal, decision.delete) == (Goal.RUN, ())


@pytest.mark.parametrize(
    ("pod", "wanted"),
    [
        (a_trainer(phase=PodPhase.PENDING, message='secret "demo-control-1111-222" not found'), True),
        (a_trainer(phase=PodPhase.PENDING, message='secret "of-the-user" not found'), False),
        (a_trainer(message='secret "demo-control-1111-222" not found'), False),
    ],
    ids=["ours", "another", "that runs"],
)
def test_the_token_is_asked_for_when_a_pod_waits_for_it(pod: Pod, wanted: bool) -> None:
    kinds = [one["kind"] for one in missing(a_job(a_status()), seen(pod), "token", Settings())]
    assert ("Secret" in kinds) is wanted
