"""A hang is a counted failure with a name of its own; the same step hanging again is said to be that step's fault."""

from __future__ import annotations

from typing import Any

import pytest

from builders import NOW, a_job, a_status, a_trainer, an_attempt, failed, last_words, seen
from rljob_api.job import RLJob
from rljob_api.progress import EXIT_STALLED, Ending, Hang, TrainPhase
from rljob_api.reasons import Reason
from rljob_api.status import ConditionType, HungStep, ProgressStatus, Status
from rljob_operator.decide import Decision, Ended, Goal, decide
from rljob_operator.happenings import happenings
from rljob_operator.observed import Observed, Pod
from rljob_operator.status import status
from rljob_operator.status_reading import condition

SAID = "step 13 hung in Reward: the reward does not return. Rank 0 is late."
IMMEDIATE = {"maxRestarts": 3, "backoffSeconds": {"initial": 0, "max": 0}}


def hung(step: int = 12, phase: TrainPhase = TrainPhase.REWARD, index: int = 0, ago: float = 0) -> Pod:
    """A trainer whose launcher found its ranks hanging after `step` finished steps."""
    hang = Hang(phase=phase, step=step, seconds=31, rank=index)
    words = last_words(Ending.STALLED, message=SAID, hang=hang)
    return a_trainer(index, **failed(EXIT_STALLED, ago, words))


def decided(*pods: Pod, before: HungStep | None = None, finished: int = 12, **spec: Any) -> Decision:
    return decide(job(before, finished, **spec), seen(*pods), NOW)


def job(before: HungStep | None = None, finished: int = 12, **spec: Any) -> RLJob:
    attempt = an_attempt(hung=before, from_step=10)
    known = a_status().model_copy(update={"attempt": attempt, "progress": ProgressStatus(step=finished)})
    return a_job(known, **spec)


def once(step: int = 12, phase: str = "Reward") -> HungStep:
    return HungStep(step=step, phase=phase, times=1)


def test_a_hang_is_a_counted_failure_and_the_next_attempt_knows_of_it() -> None:
    decision = decided(hung(), failurePolicy=IMMEDIATE)
    assert decision.begin is not None
    assert (decision.begin.reason, decision.ended) == (Reason.STALLED, Ended.COUNTED)
    assert decision.begin.hung == once()
    assert SAID.rstrip(".") in decision.message
    assert [failure.exit_code for failure in decision.failures] == [EXIT_STALLED]


def test_progressing_is_false_for_that_reason_until_the_gang_runs_again() -> None:
    told = [shown(hung(0)), shown(hung(0), a_trainer(1), trainer={"numNodes": 2})]
    progressing = [condition(one, ConditionType.PROGRESSING) for one in told]
    assert [(one.status, one.reason) for one in progressing if one] == [("False", Reason.STALLED)] * 2
    assert all("hung in Reward" in one.message for one in told)


def shown(*pods: Pod, **spec: Any) -> Status:
    observed: Observed = seen(*pods)
    return status(job(**spec), observed, decide(job(**spec), observed, NOW), NOW)


def test_it_is_an_event() -> None:
    notes = [one.note for one in happenings(job().status, shown(hung())) if one.reason == Reason.STALLED]
    assert len(notes) == 1
    assert "hung in Reward" in notes[0]


def test_who_tells_of_the_hang_is_its_cause_even_if_others_died_of_it_first() -> None:
    torn = a_trainer(0, **failed(1, 5, last_words(Ending.FAILED, message="connection closed by peer")))
    decision = decided(torn, hung(index=1), trainer={"numNodes": 2}, failurePolicy=IMMEDIATE)
    assert decision.begin is not None
    assert decision.begin.reason == Reason.STALLED


def test_the_same_step_again_is_said_to_be_that_steps_fault() -> None:
    decision = decided(hung(), before=once(phase="Generate"), failurePolicy=IMMEDIATE)
    assert "Step 13 has hung 2 times in a row" in decision.message
    assert decision.begin is not None
    assert decision.begin.hung == HungStep(step=12, phase="Reward", times=2)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, hung(12)),
        (once(11), hung(12)),
        (once(0, "Prepare"), hung(0, TrainPhase.LOAD)),
        (once(0, "Load"), hung(0, TrainPhase.TRAIN)),
    ],
)
def test_another_step_or_another_preparation_is_not_the_same(before: HungStep | None, now: Pod) -> None:
    assert "in a row" not in decided(now, before=before).message


def test_a_hang_of_the_preparations_again_is_told_as_such() -> None:
    decision = decided(hung(0, TrainPhase.LOAD), before=once(0, "Load"), finished=0)
    assert "Load has hung 2 times in a row" in decision.message


@pytest.mark.parametrize(("finished", "remembered"), [(12, once()), (13, None)])
def test_it_is_forgotten_once_the_step_is_finished(finished: int, remembered: HungStep | None) -> None:
    preempted = a_trainer(**failed(143, words=last_words(Ending.PREEMPTED)))
    decision = decided(preempted, before=once(), finished=finished)
    assert decision.begin is not None
    assert decision.begin.hung == remembered


def test_more_hangs_than_restarts_are_allowed_fail_the_job() -> None:
    decision = decided(hung(), failurePolicy={"maxRestarts": 0})
    assert (decision.goal, decision.reason) == (Goal.FAIL, Reason.MAX_RESTARTS_EXCEEDED)
    assert "hung in Reward" in decision.message


def test_a_rule_may_exempt_hangs_by_their_exit_code() -> None:
    rule = {
        "name": "hangs",
        "action": "RestartAndIgnoreMaxRestarts",
        "onExitCodes": {"values": [EXIT_STALLED]},
    }
    decision = decided(hung(), failurePolicy={**IMMEDIATE, "maxRestarts": 0, "rules": [rule]})
    assert decision.ended is Ended.IGNORED
