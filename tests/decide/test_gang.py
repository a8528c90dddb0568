"""The trainer gang: when it starts, when it restarts, when it gives up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import (
    NOW,
    a_job,
    a_progress,
    a_rollout,
    a_status,
    a_trainer,
    an_attempt,
    complete,
    failed,
    last_words,
    seen,
    true,
)
from rljob_api.progress import EXIT_KILLED, EXIT_PREEMPTED, EXIT_VOLUME_UNUSABLE, Ending
from rljob_api.status import Condition, ConditionType, Phase, ProgressStatus, Status
from rljob_operator.decide import Decision, Ended, Goal, decide
from rljob_operator.decide.verdict import first_to_end
from rljob_operator.observed import Pod, PodPhase
from rljob_operator.times import to_text

STEADY = (a_rollout(),)


def names(pods: tuple[Any, ...]) -> list[str]:
    return [pod.name for pod in pods]


def after(status: Status | None, *pods: Pod, pinned: int = 1, **spec: Any) -> Decision:
    return decide(a_job(status, **spec), seen(*pods, *STEADY, pinned=pinned), NOW)


def test_the_attempt_is_numbered_before_any_pod_exists() -> None:
    decision = decide(a_job(), seen(pinned=0), NOW)
    assert decision.begin is not None
    assert (decision.begin.number, decision.begin.reason) == (1, "FirstAttempt")
    assert decision.start == ()


def test_all_pods_start_at_once_when_the_number_is_written() -> None:
    job = a_job(a_status(), trainer={"numNodes": 2}, rollout={"replicas": 2})
    decision = decide(job, seen(pinned=0), NOW)
    assert names(decision.start) == [
        "demo-trainer-0-1",
        "demo-trainer-1-1",
        "demo-rollout-0-0",
        "demo-rollout-1-0",
    ]
    assert decision.begin is None


def test_a_gang_that_runs_is_left_alone() -> None:
    assert after(a_status(), a_trainer()) == Decision(Goal.RUN, "")


def test_the_rest_of_a_broken_gang_is_stopped_before_anything_else() -> None:
    decision = after(a_status(), a_trainer(0), a_trainer(1, **failed()), trainer={"numNodes": 2})
    assert names(decision.delete) == ["demo-trainer-0-1"]
    assert decision.begin is None
    assert decision.goal is Goal.RESTART


@pytest.mark.parametrize(
    ("lost", "grace", "given"),
    [
        (None, 300, 30),
        (failed(), 300, 30),
        (failed(137) | {"disrupted": True}, 300, 30),
        (failed(), 10, 10),
        (failed(), None, 30),
        (failed(EXIT_PREEMPTED, words=last_words(Ending.PREEMPTED)), 300, 300),
        (failed(EXIT_PREEMPTED), 300, 300),
    ],
    ids=["vanished", "failed", "killed with its node", "short anyway", "not known", "saved", "told to go"],
)
def test_survivors_have_no_time_to_save_without_the_one_that_is_lost(
    lost: dict[str, Any] | None, grace: int | None, given: int
) -> None:
    """They would hang in a collective with it for all of that time."""
    others = (a_trainer(1, **lost),) if lost else ()
    survivor = a_trainer(0, grace_seconds=grace)
    decision = after(a_status(), survivor, *others, trainer={"numNodes": 2})
    assert [(pod.name, pod.grace_seconds) for pod in decision.delete] == [("demo-trainer-0-1", given)]


def test_a_stopping_gang_is_waited_for() -> None:
    pods = (a_trainer(0, terminating=True), a_trainer(1, **failed()))
    decision = after(a_status(), *pods, trainer={"numNodes": 2})
    assert (decision.delete, decision.begin, decision.start) == ((), None, ())


def test_never_two_gangs() -> None:
    decision = after(a_status(2), a_trainer(attempt=1), pinned=1)
    assert names(decision.delete) == ["demo-trainer-0-1"]
    assert decision.start == ()


def test_logs_of_the_last_attempts_stay_readable_and_older_pods_go() -> None:
    old = [a_trainer(attempt=number, **failed()) for number in range(1, 5)]
    decision = after(a_status(5), *old, pinned=4)
    assert names(decision.delete) == ["demo-trainer-0-1", "demo-trainer-0-2"]
    assert names(decision.start) == ["demo-trainer-0-5"]


def test_until_its_config_is_there_all_pods_of_an_attempt_are_asked_for() -> None:
    decision = after(a_status(2), a_trainer(0, attempt=2), trainer={"numNodes": 2})
    assert names(decision.start) == ["demo-trainer-0-2", "demo-trainer-1-2"]
    assert decision.begin is None


def test_a_pod_that_ended_before_the_others_existed_ends_the_attempt() -> None:
    evicted = failed(None) | {"disrupted": True}
    decision = after(a_status(2), a_trainer(0, attempt=2, **evicted), trainer={"numNodes": 2})
    assert (decision.start, decision.ended) == ((), Ended.PREEMPTED)


def test_the_next_attempt_has_another_token() -> None:
    decision = after(a_status(), a_trainer(**failed(ago=60)))
    assert decision.begin is not None
    assert decision.begin.number == 2
    assert decision.begin.token != an_attempt(1).token


@pytest.mark.parametrize(
    ("in_a_row", "progressed", "pause"),
    [(0, False, 10), (1, False, 20), (2, False, 40), (9, False, 300), (4, True, 10)],
    ids=["first", "second doubles", "third doubles", "never above max", "starts over after a finished step"],
)
def test_the_pause_doubles_until_a_step_is_finished(in_a_row: int, progressed: bool, pause: float) -> None:
    attempt = an_attempt(1, failures_in_a_row=in_a_row, from_step=3)
    status = Status(attempt=attempt, progress=ProgressStatus(step=4 if progressed else 3))
    waiting = after(status, a_trainer(**failed(ago=pause - 1)))
    assert (waiting.begin, waiting.wake_at) == (None, NOW + 1)
    due = after(status, a_trainer(**failed(ago=pause)))
    assert due.begin is not None
    assert due.begin.failures_in_a_row == (1 if progressed else in_a_row + 1)


def test_a_step_of_an_earlier_attempt_does_not_shorten_the_pause() -> None:
    status = Status(attempt=an_attempt(2, failures_in_a_row=1), progress=ProgressStatus(step=7))
    decision = decide(a_job(status), seen(a_trainer(attempt=2, **failed()), *STEADY, pinned=2), NOW)
    assert decision.wake_at == NOW + 20


@pytest.mark.parametrize(
    ("facts", "ended"),
    [
        (failed(1, ago=60), Ended.COUNTED),
        (failed(0, ago=60), Ended.COUNTED),
        (failed(143), Ended.PREEMPTED),
        (failed(1, words=last_words(Ending.PREEMPTED)), Ended.PREEMPTED),
        (failed(137) | {"disrupted": True}, Ended.PREEMPTED),
    ],
    ids=[
        "a failure",
        "exit code 0 without all steps",
        "SIGTERM obeyed",
        "last words say preempted",
        "ended by the cluster",
    ],
)
def test_how_an_end_counts(facts: dict[str, Any], ended: Ended) -> None:
    decision = after(a_status(), a_trainer(**facts))
    assert decision.ended is ended
    assert bool(decision.failures) is (ended is Ended.COUNTED)


def test_the_first_to_end_is_judged_not_those_it_took_along() -> None:
    pods = (a_trainer(0, **failed(1, ago=1)), a_trainer(1, **failed(143, ago=2)))
    assert after(a_status(), *pods, trainer={"numNodes": 2}).ended is Ended.PREEMPTED


def test_pods_that_vanished_without_a_word_count_as_preempted() -> None:
    decision = after(a_status())
    assert decision.begin is not None
    assert (decision.ended, decision.begin.reason) == (Ended.PREEMPTED, "PodsGone")


BY_FORCE: dict[str, Any] = {"trainer": {"numNodes": 2}, "failurePolicy": {"maxRestarts": 0}}


def when_one_is_missing(*pods: Pod, saw_it_go: bool = False) -> Decision:
    observed = replace(seen(*pods, *STEADY), trainer_vanished=saw_it_go)
    return decide(a_job(a_status(), **BY_FORCE), observed, NOW)


@pytest.mark.parametrize("exit_code", [1, 137, 143], ids=["connection closed", "grace is over", "saved"])
def test_who_was_told_to_go_for_want_of_a_pod_that_vanished_did_not_fail(exit_code: int) -> None:
    """Even an operator that did not see it vanish knows."""
    decision = when_one_is_missing(a_trainer(0, terminating=True, **failed(exit_code)))
    assert decision.begin is not None
    assert (decision.ended, decision.begin.reason) == (Ended.PREEMPTED, "PodsGone")


def test_who_saw_a_pod_vanish_first_knows_why_the_others_ended_before_they_were_told() -> None:
    crashed = a_trainer(0, **failed(1))
    decision = when_one_is_missing(crashed, saw_it_go=True)
    assert decision.begin is not None
    assert (decision.ended, decision.begin.reason) == (Ended.PREEMPTED, "PodsGone")
    assert when_one_is_missing(crashed).goal is Goal.FAIL, (
        "as if it had failed first: nobody saw it otherwise"
    )


def test_while_the_others_go_the_pod_that_is_gone_is_told_of_and_not_them() -> None:
    spec: dict[str, Any] = {"trainer": {"numNodes": 3}}
    decision = after(a_status(), a_trainer(0, terminating=True, **failed(1)), a_trainer(2), **spec)
    assert decision.message == "The trainer gang restarts: a trainer pod is gone."
    assert names(decision.delete) == ["demo-trainer-2-1"]


@pytest.mark.parametrize("others", [0, 1], ids=["another is missing", "all are known"])
def test_who_ended_before_anybody_told_it_to_go_counts_by_its_own_end(others: int) -> None:
    followers = [a_trainer(1, terminating=True, **failed(137))][:others]
    decision = when_one_is_missing(a_trainer(0, **failed(1, ago=9)), *followers)
    assert (decision.goal, decision.reason) == (Goal.FAIL, "MaxRestartsExceeded")


def test_who_lost_a_pod_with_its_node_did_not_fail_though_the_node_was_cleared_up_after_later() -> None:
    """Its connections broke at once; the pod is called ended when the node is given up, and nobody saw how."""
    lost = a_trainer(1, **failed(None) | {"disrupted": True, "terminating": True})
    assert after(a_status(), a_trainer(0, **failed(1, ago=300)), lost, **BY_FORCE).ended is Ended.PREEMPTED
    ended = a_trainer(1, **failed(143) | {"disrupted": True, "terminating": True})
    assert after(a_status(), a_trainer(0, **failed(1, ago=300)), ended, **BY_FORCE).goal is Goal.FAIL


@pytest.mark.parametrize(
    "facts", [failed(2), failed(1, words=last_words(Ending.MISTAKE, message="no such model"))]
)
def test_a_mistake_fails_the_job_at_once_even_beside_living_pods(facts: dict[str, Any]) -> None:
    decision = after(a_status(), a_trainer(0), a_trainer(1, **facts), trainer={"numNodes": 2})
    assert (decision.goal, decision.reason) == (Goal.FAIL, "Mistake")
    assert names(decision.delete) == ["demo-trainer-0-1", "demo-rollout-0-0"]


@pytest.mark.parametrize(("counted", "goal"), [(2, Goal.RESTART), (3, Goal.FAIL)])
def test_max_restarts(counted: int, goal: Goal) -> None:
    status = a_status(restarts_count_towards_max=counted)
    assert after(status, a_trainer(**failed(ago=1000))).goal is goal


@pytest.mark.parametrize(("limit", "said"), [(0, "0 restarts"), (1, "1 restart"), (2, "2 restarts")])
def test_a_job_that_fails_says_after_how_many_restarts(limit: int, said: str) -> None:
    status = a_status(restarts_count_towards_max=limit)
    decision = after(status, a_trainer(**failed()), failurePolicy={"maxRestarts": limit})
    assert f"(after {said}; failurePolicy.maxRestarts is {limit})" in decision.message


@pytest.mark.parametrize(
    ("rule", "goal", "ended"),
    [
        ({"action": "FailJob", "onExitCodes": {"values": [7]}}, Goal.FAIL, None),
        (
            {"action": "RestartAndIgnoreMaxRestarts", "onExitCodes": {"values": [7]}},
            Goal.RESTART,
            Ended.IGNORED,
        ),
        ({"action": "Restart", "onExitCodes": {"values": [7]}}, Goal.RESTART, Ended.COUNTED),
        ({"action": "FailJob", "onExitCodes": {"values": [8]}}, Goal.RESTART, Ended.COUNTED),
        ({"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [8]}}, Goal.FAIL, None),
        (
            {"action": "FailJob", "targetRoles": ["rollout"], "onExitCodes": {"values": [7]}},
            Goal.RESTART,
            Ended.COUNTED,
        ),
    ],
    ids=["fail", "ignore", "restart", "other code", "not in", "other role"],
)
def test_rules_by_exit_code(rule: dict[str, Any], goal: Goal, ended: Ended | None) -> None:
    policy = {"rules": [{"name": "r", **rule}]}
    decision = after(a_status(), a_trainer(**failed(7, ago=60)), failurePolicy=policy)
    assert (decision.goal, decision.ended) == (goal, ended)


@pytest.mark.parametrize(
    ("status", "disrupted", "goal"),
    [
        ("True", True, Goal.FAIL),
        ("True", False, Goal.RESTART),
        ("False", True, Goal.RESTART),
        ("False", False, Goal.FAIL),
    ],
)
def test_rules_by_pod_condition(status: str, disrupted: bool, goal: Goal) -> None:
    condition = {"type": "DisruptionTarget", "status": status}
    policy = {"rules": [{"name": "r", "action": "FailJob", "onPodConditions": [condition]}]}
    pod = a_trainer(**failed(1, ago=60) | {"disrupted": disrupted})
    assert after(a_status(), pod, failurePolicy=policy).goal is goal


def test_a_job_is_complete_when_every_node_says_so() -> None:
    spec: dict[str, Any] = {"trainer": {"numNodes": 2}}
    almost = after(a_status(), a_trainer(0, **complete()), a_trainer(1), **spec)
    assert (almost.goal, almost.delete) == (Goal.RUN, ())
    done = after(a_status(), a_trainer(0, **complete()), a_trainer(1, **complete()), **spec)
    assert done.goal is Goal.COMPLETE
    assert names(done.delete) == ["demo-rollout-0-0"]


def test_a_server_that_ends_as_its_job_does_goes_at_once() -> None:
    """Nothing else may ever tell of the job again."""
    done = decide(a_job(a_status()), seen(a_trainer(**complete()), a_rollout(**failed())), NOW)
    assert names(done.delete) == ["demo-rollout-0-0"]


@pytest.mark.parametrize(
    ("kind", "goal"),
    [
        (ConditionType.SUCCESS_CRITERIA_MET, Goal.COMPLETE),
        (ConditionType.COMPLETE, Goal.COMPLETE),
        (ConditionType.FAILURE_TARGET, Goal.FAIL),
        (ConditionType.FAILED, Goal.FAIL),
    ],
)
def test_what_is_over_stays_over(kind: ConditionType, goal: Goal) -> None:
    status = a_status(conditions=[true(kind)], phase=Phase.TRAINING)
    decision = after(status, a_trainer(**failed(ago=1000)), suspend=True)
    assert decision.goal is goal
    assert decision.message == "why"
    assert (decision.begin, decision.start) == (None, ())


def test_suspending_stops_all_pods_once() -> None:
    decision = after(a_status(), a_trainer(0), a_trainer(1, terminating=True), suspend=True)
    assert decision.goal is Goal.SUSPEND
    assert names(decision.delete) == ["demo-trainer-0-1", "demo-rollout-0-0"]


@pytest.mark.parametrize(
    ("late", "reason"),
    [(29, "GangStopping"), (30, "NodeLost")],
    ids=["within its grace", "overdue"],
)
def test_a_silent_node_is_named_and_nothing_takes_the_place_of_its_pod(late: float, reason: str) -> None:
    silent = a_trainer(0, terminating=True, gone_by=NOW - late, node="gpu-17")
    decision = after(a_status(), silent, a_trainer(1, **failed(143)), trainer={"numNodes": 2})
    assert (decision.reason, decision.begin, decision.delete) == (reason, None, ())
    assert ("kubectl delete node gpu-17" in decision.message) is (reason == "NodeLost")
    assert decision.wake_at == (NOW + 1 if reason == "GangStopping" else None)


def test_a_gang_on_a_silent_node_goes_on_and_the_node_is_named() -> None:
    """It may well train: nobody can tell. What was evicted in vain is not there to be deleted again."""
    silent = a_trainer(0, terminating=True, gone_by=NOW - 30, node="gpu-17")
    decision = after(a_status(), silent)
    assert (decision.goal, decision.reason) == (Goal.RUN, "NodeLost")
    assert "Node gpu-17 is silent" in decision.message
    assert (decision.begin, decision.start, decision.delete) == (None, (), ())


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({"ago": 3}, {"ago": 1, "disrupted": True}),
        ({"disrupted": True}, {}),
        ({}, {"terminating": True}),
        ({"disrupted": True, "terminating": True}, {}),
    ],
    ids=["earlier", "taken away by the cluster", "not told to go", "taken away, and told to go"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_pod_that_explains_the_others_ends_is_the_first_to_end(
    first: dict[str, Any], other: dict[str, Any], order: int
) -> None:
    """Kubelets tell whole seconds, so several may have ended at once."""
    pods = [ended(0, **first), ended(1, **other)]
    assert first_to_end(pods[::order]).index == 0


def ended(index: int, ago: float = 0.0, **facts: Any) -> Pod:
    return a_trainer(index, **failed(1, ago=ago), **facts)


def test_suspended_means_that_nothing_runs() -> None:
    pods = (a_trainer(**failed(143)), a_rollout(phase=PodPhase.FAILED))
    assert decide(a_job(a_status(), suspend=True), seen(*pods), NOW).goal is Goal.SUSPENDED


@pytest.mark.parametrize(
    ("pod", "goal"), [(a_trainer(terminating=True), Goal.SUSPEND), (a_trainer(**failed(143)), Goal.SUSPENDED)]
)
def test_a_suspension_comes_to_its_end_though_the_job_is_resumed_meanwhile(pod: Pod, goal: Goal) -> None:
    """What was told to go is no preemption."""
    under_way = Condition(type=ConditionType.PROGRESSING, status="False", reason="Suspending")
    decision = decide(a_job(a_status(conditions=[under_way])), seen(pod), NOW)
    assert (decision.goal, decision.begin) == (goal, None)
    assert decision.wake_at == (NOW if goal is Goal.SUSPENDED else None)


def test_a_resumed_job_begins_an_attempt_that_follows_no_failure() -> None:
    status = a_status(conditions=[true(ConditionType.SUSPENDED)])
    decision = decide(a_job(status), seen(), NOW)
    assert decision.begin is not None
    assert (decision.begin.number, decision.begin.reason, decision.ended) == (2, "Resumed", None)


def test_progress_does_not_matter_to_the_gang() -> None:
    observed = seen(a_trainer(), *STEADY, progress=a_progress())
    decision = decide(a_job(a_status()), observed, NOW)
    assert replace(decision, wake_at=None) == Decision(Goal.RUN, "")


FULL = "Opening the job's directory failed: the volume at /jobs/demo is full"


def found_no_room(index: int = 0, ago: float = 0.0, **facts: Any) -> Pod:
    words = last_words(Ending.VOLUME_UNUSABLE, exit_code=EXIT_VOLUME_UNUSABLE, message=FULL)
    return a_trainer(index, **failed(EXIT_VOLUME_UNUSABLE, ago, words), **facts)


@pytest.mark.parametrize("disrupted", [False, True], ids=["when it began", "when it was told to go"])
def test_a_full_volume_is_waited_for_and_never_counted(disrupted: bool) -> None:
    status = Status(attempt=an_attempt(1, failures_in_a_row=30), restarts_count_towards_max=3)
    waiting = after(status, found_no_room(ago=299, disrupted=disrupted))
    assert (waiting.goal, waiting.reason, waiting.wake_at) == (Goal.RESTART, "VolumeUnusable", NOW + 1)
    assert FULL in waiting.message
    assert waiting.delete == (), "servers stay"
    due = after(status, found_no_room(ago=300, disrupted=disrupted))
    assert due.begin is not None
    assert (due.begin.reason, due.ended) == ("VolumeUnusable", Ended.IGNORED)
    assert [failure.message for failure in due.failures] == [FULL]


def test_who_tells_of_the_full_volume_is_the_cause_even_if_others_died_of_it_first() -> None:
    followed = a_trainer(1, **failed(1, 9, last_words(Ending.FAILED, message="rank 0 failed")))
    spec: dict[str, Any] = {"trainer": {"numNodes": 2}, "failurePolicy": {"maxRestarts": 0}}
    assert after(a_status(), found_no_room(), followed, **spec).reason == "VolumeUnusable"
    assert after(a_status(), followed, found_no_room(ago=9), **spec).reason == "VolumeUnusable"


def test_a_pod_that_only_followed_another_is_not_the_cause_even_if_it_ended_before() -> None:
    followed = failed(1, 9, last_words(Ending.FAILED, message="rank 1 failed: no file", followed=True))
    cause = failed(1, 5, last_words(Ending.FAILED, rank=1, message="no file"))
    for pods in (
        (a_trainer(0, **followed), a_trainer(1, **cause)),
        (a_trainer(1, **cause), a_trainer(0, **followed)),
    ):
        (told,) = after(a_status(), *pods, trainer={"numNodes": 2}).failures
        assert (told.rank, told.message) == (1, "no file")
    killed = a_trainer(1, **failed(EXIT_KILLED, 5), terminating=True)
    (told,) = after(a_status(), a_trainer(0, **followed), killed, trainer={"numNodes": 2}).failures
    assert told.message == "rank 1 failed: no file", "who was killed before it could say so explains less"


def test_a_full_volume_is_waited_for_until_a_deadline_of_the_job_or_a_rule_says_stop() -> None:
    started = Status(attempt=an_attempt(1), start_time=to_text(NOW - 60))
    late = after(started, found_no_room(), activeDeadlineSeconds=60)
    assert (late.goal, late.reason) == (Goal.FAIL, "DeadlineExceeded")
    rule = {"name": "full", "action": "FailJob", "onExitCodes": {"values": [EXIT_VOLUME_UNUSABLE]}}
    refused = after(a_status(), found_no_room(), failurePolicy={"rules": [rule]})
    assert (refused.goal, refused.reason) == (Goal.FAIL, "FailJobRule")


def test_any_program_may_exit_with_that_code() -> None:
    other = a_trainer(**failed(EXIT_VOLUME_UNUSABLE))
    assert after(a_status(), other, failurePolicy={"maxRestarts": 0}).goal is Goal.FAIL


UNMET = failed(3, words=last_words(Ending.UNMET, exit_code=3, message="torch was 1 and is 2"))


def test_a_resume_that_is_not_exact_enough_gives_all_pods_back() -> None:
    decision = after(a_status(2), a_trainer(attempt=2, **UNMET), pinned=2)
    assert (decision.goal, decision.reason) == (Goal.WAIT, "ExactnessUnmet")
    assert decision.message == "torch was 1 and is 2"
    assert names(decision.delete) == ["demo-rollout-0-0"]
    assert decision.ended is None, "nothing has failed"


def waits_for_a_choice(generation: int = 1) -> Status:
    back = {"given_back_time": to_text(NOW - 86_400), "given_back_reason": "ExactnessUnmet"}
    return a_status(2, message="torch was 1 and is 2", observed_generation=2).model_copy(
        update={"attempt": an_attempt(2, generation=generation, **back)}
    )


def test_it_waits_for_as_long_as_nobody_chooses() -> None:
    decision = decide(a_job(waits_for_a_choice()), seen(), NOW)
    assert (decision.goal, decision.message, decision.wake_at) == (Goal.WAIT, "torch was 1 and is 2", None)


def test_after_an_edit_it_looks_again() -> None:
    """Even if the edit came while its pods were still going: the status has seen that generation already."""
    decision = decide(a_job(waits_for_a_choice(generation=0)), seen(), NOW)
    assert decision.begin is not None
    assert decision.begin.number == 3
