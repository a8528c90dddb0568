"""A gang that cannot be placed: what it holds goes back, and it tries again later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import NOW, a_job, a_rollout, a_trainer, an_attempt, seen
from rljob_api.status import AttemptStatus, Condition, ConditionType, Status
from rljob_operator import times
from rljob_operator.decide import Decision, Goal, decide
from rljob_operator.decide.placement import pause
from rljob_operator.observed import Observed, Pod, PodPhase, Refusal

TWO_NODES: dict[str, Any] = {"trainer": {"numNodes": 2}}


def waiting(since: float) -> dict[str, Any]:
    """Facts of a pod without a node."""
    return {
        "phase": PodPhase.PENDING,
        "ready": False,
        "started_at": None,
        "created_at": NOW - since,
        "reason": "Unschedulable",
        "message": "0/31 nodes are available: 31 Insufficient nvidia.com/gpu",
    }


def begun(ago: float, **facts: Any) -> Status:
    return Status(attempt=an_attempt(1, started_time=times.to_text(NOW - ago), **facts))


def refused(
    *pods: Pod, since: float = 100, kind: str = "Pod", message: str = "exceeded quota: q"
) -> Observed:
    """The cluster would not have another pod; those that are there cannot start without the others."""
    refusal = Refusal(kind, "demo-trainer-1-1", 403, "Forbidden", message, NOW - since)
    return replace(seen(*pods, pinned=0), refusal=refusal)


def after(status: Status, observed: Observed, **spec: Any) -> Decision:
    return decide(a_job(status, **(spec or TWO_NODES)), observed, NOW)


def names(pods: tuple[Any, ...]) -> list[str]:
    return [pod.name for pod in pods]


def test_a_refused_pod_is_asked_for_again_for_a_while() -> None:
    decision = after(begun(ago=29), refused(a_trainer(0)))
    assert (decision.goal, decision.delete, decision.give_back) == (Goal.RUN, (), None)
    assert names(decision.start)[:2] == ["demo-trainer-0-1", "demo-trainer-1-1"]
    assert decision.wake_at == NOW + 1


def test_then_all_pods_are_given_back_the_servers_too() -> None:
    decision = after(begun(ago=30), refused(a_trainer(0), a_rollout()))
    assert (decision.goal, decision.reason, decision.start) == (Goal.WAIT, "QuotaExceeded", ())
    assert names(decision.delete) == ["demo-trainer-0-1", "demo-rollout-0-0"]
    assert decision.give_back is not None
    assert decision.wake_at == NOW + 30
    assert "exceeded quota: q" in decision.message


def test_a_refusal_of_something_else_gives_nothing_back() -> None:
    assert after(begun(ago=300), refused(a_trainer(0), kind="Service")).give_back is None


@pytest.mark.parametrize(
    ("since", "goal"), [(599, Goal.RUN), (600, Goal.WAIT)], ids=["an autoscaler may help", "in vain"]
)
def test_a_gang_that_holds_nodes_in_vain_gives_them_back(since: float, goal: Goal) -> None:
    observed = seen(a_trainer(0, node="a"), a_trainer(1, **waiting(since)), a_rollout(node="b"))
    decision = after(begun(ago=1000), observed)
    assert (decision.goal, bool(decision.delete)) == (goal, goal is Goal.WAIT)
    assert decision.wake_at == NOW + (1 if goal is Goal.RUN else 30)


@pytest.mark.parametrize(("least", "goal"), [(2, Goal.WAIT), (1, Goal.RUN)])
def test_servers_without_a_node_count_up_to_min_replicas(least: int, goal: Goal) -> None:
    observed = seen(a_trainer(node="a"), a_rollout(0, node="a"), a_rollout(1, **waiting(600)))
    rollout = {"replicas": 2, "minReplicas": least}
    assert after(begun(ago=1000), observed, trainer={}, rollout=rollout).goal is goal


def test_after_a_refusal_the_servers_beyond_min_replicas_come_later() -> None:
    rollout = {"replicas": 4, "minReplicas": 2}
    first = after(begun(ago=1), seen(pinned=0), trainer={}, rollout=rollout)
    again = after(begun(ago=1), refused(a_trainer(0)), trainer={}, rollout=rollout)
    assert [len(first.start), len(again.start)] == [5, 3]


def test_a_refused_server_beyond_min_replicas_leaves_a_gang_that_started_alone() -> None:
    observed = replace(refused(a_trainer(0), a_rollout(0)), run_config_maps=seen().run_config_maps)
    decision = after(begun(ago=1000), observed, trainer={}, rollout={"replicas": 2})
    assert (decision.goal, decision.delete) == (Goal.RUN, ())
    assert names(decision.start) == ["demo-rollout-1-0"]


def test_a_gang_that_holds_nothing_waits() -> None:
    pods = (a_trainer(0, **waiting(6000)), a_trainer(1, **waiting(6000)), a_rollout(**waiting(6000)))
    assert after(begun(ago=6000), seen(*pods)).goal is Goal.RUN


def test_training_that_ran_is_not_given_back_for_a_server_without_a_node() -> None:
    observed = seen(a_trainer(node="a"), a_rollout(**waiting(600)))
    assert after(begun(ago=1000, from_step=0), observed, trainer={}).goal is Goal.RUN


def given_back(ago: float, **facts: Any) -> Status:
    back = {"given_back_time": times.to_text(NOW - ago), "given_back_reason": "QuotaExceeded"}
    return Status(attempt=an_attempt(1, **back, **facts), message="no room", observed_generation=1)


def test_nothing_starts_while_pods_that_were_given_back_still_stop() -> None:
    decision = after(given_back(ago=1000), seen(a_trainer(0, terminating=True), a_rollout()))
    assert (decision.goal, decision.message, decision.begin, decision.start) == (
        Goal.WAIT,
        "no room",
        None,
        (),
    )
    assert names(decision.delete) == ["demo-rollout-0-0"]


def test_a_silent_node_is_told_of_no_longer_than_it_is_silent() -> None:
    lost = Condition(type=ConditionType.PROGRESSING, status="False", reason="NodeLost")
    status = given_back(ago=10).model_copy(update={"message": "Node n is silent", "conditions": [lost]})
    message = after(status, seen()).message
    assert message == f"All pods were given back; the next try is at {times.to_text(NOW + 20)}."


@pytest.mark.parametrize(("ago", "begins"), [(119, False), (120, True)])
def test_the_next_try_comes_after_a_pause_and_counts_as_no_failure(ago: float, begins: bool) -> None:
    decision = after(given_back(ago, tries_in_a_row=2, failures_in_a_row=1), seen())
    assert (decision.begin is not None, decision.ended) == (begins, None)
    if decision.begin is None:
        assert decision.wake_at == NOW + 1
    else:
        assert (decision.begin.tries_in_a_row, decision.begin.failures_in_a_row) == (3, 1)


def test_the_next_try_asks_for_min_replicas_first_whoever_saw_the_refusal() -> None:
    """Or the other servers could take the room that trainers need, each time again."""
    status = Status(attempt=an_attempt(2, tries_in_a_row=1))
    rollout = {"replicas": 4, "minReplicas": 2}
    first = after(status, seen(pinned=1), trainer={}, rollout=rollout)
    assert len(first.start) == 3
    then = seen(a_trainer(attempt=2), a_rollout(0), a_rollout(1), pinned=2)
    assert len(after(status, then, trainer={}, rollout=rollout).start) == 2


def test_an_edit_is_tried_at_once() -> None:
    job = a_job(given_back(ago=1))
    metadata = job.metadata.model_copy(update={"generation": 2})
    assert decide(job, seen(), NOW).begin is None
    assert decide(job.model_copy(update={"metadata": metadata}), seen(), NOW).begin is not None


def test_the_pause_doubles_up_to_five_minutes() -> None:
    pauses = [pause(AttemptStatus(number=1, tries_in_a_row=tries)) for tries in (0, 1, 2, 3, 4, 10_000)]
    assert pauses == [30, 60, 120, 240, 300, 300]
