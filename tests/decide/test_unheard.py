"""Trainers of which nothing is heard are named in the message, and nothing is done to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import NOW, a_job, a_progress, a_rollout, a_status, a_trainer, complete, seen
from rljob_api.progress import TrainPhase
from rljob_operator import times
from rljob_operator.decide import Decision, Goal, decide
from rljob_operator.decide.unheard import PATIENCE_SECONDS
from rljob_operator.observed import Observed, Pod
from rljob_operator.status import status

LONG = float(PATIENCE_SECONDS)
RUN = Decision(Goal.RUN, "")


def after(seconds: float, trainer: Pod | None = None, **progress: Any) -> Observed:
    """The last sign of life was so long ago."""
    heard = a_progress(heartbeat=NOW - seconds, **progress)
    return seen(trainer or a_trainer(), a_rollout(), progress=heard)


def message(observed: Observed) -> str:
    job = a_job(a_status())
    return status(job, observed, decide(job, observed, NOW), NOW).message


def test_it_is_said_of_whom_nothing_was_heard_and_since_when() -> None:
    said = message(after(LONG))
    assert said.startswith(
        f"No sign of life from {a_trainer().name} since {times.to_text(NOW - LONG)}, in phase"
    )
    assert "kubectl logs" in said


def test_nothing_is_done_about_it() -> None:
    decision = decide(a_job(a_status()), after(LONG * 100), NOW)
    assert (decision.delete, decision.start, decision.begin) == ((), (), None)


@pytest.mark.parametrize(
    "observed",
    [
        after(LONG - 1),
        after(LONG, attempt=7),
        after(LONG, a_trainer(terminating=True)),
        after(LONG, a_trainer(**complete())),
        after(LONG, phase=TrainPhase.CONVERT),
        seen(a_trainer(), a_rollout()),
    ],
    ids=["heard lately", "of another attempt", "told to go", "ended", "only converted", "never heard yet"],
)
def test_nothing_is_said_when_nothing_is_to_be_heard(observed: Observed) -> None:
    assert message(observed) == ""


@pytest.mark.parametrize("began_s", [-LONG, LONG], ids=["began before", "began since"])
def test_an_operator_that_has_not_heard_anything_itself_counts_from_the_status_or_from_its_own_beginning(
    began_s: float,
) -> None:
    told = status(a_job(a_status()), after(0), RUN, NOW)
    listening = replace(seen(a_trainer(), a_rollout()), listening_since=NOW + began_s)
    silent_since = max(NOW, NOW + began_s)
    due = silent_since + LONG
    said = status(a_job(told), listening, RUN, due).message
    assert said.startswith(
        f"No sign of life from {a_trainer().name} since {times.to_text(silent_since)}, in phase Train."
    )
    assert status(a_job(told), listening, RUN, due - 1).message == ""
    assert decide(a_job(told), listening, due - 1).wake_at == due


def test_a_pass_comes_when_patience_ends_and_none_is_asked_for_after_that() -> None:
    assert decide(a_job(a_status()), after(20), NOW).wake_at == NOW - 20 + LONG
    assert decide(a_job(a_status()), after(LONG), NOW).wake_at is None
