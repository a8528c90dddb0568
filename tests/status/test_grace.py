"""A grace period that saves do not fit in is told before it costs anything."""

from __future__ import annotations

import pytest

from builders import NOW, a_checkpoint, a_job, a_progress, a_rollout, a_status, a_trainer, failed, seen
from rljob_api.base import Manifest
from rljob_api.reasons import Reason
from rljob_api.status import Condition, ConditionType, Status
from rljob_operator.decide import Decision, Goal
from rljob_operator.happenings import happenings
from rljob_operator.status import status


def told(
    save_seconds: float | None, before: Status | None = None, *, given: int = 100, **checkpoint: object
) -> Status:
    """The status of a job that asks for 100 s to leave, once a save took so long. Its trainers were `given` them."""
    knobs: Manifest = {"onPreemption": {"gracePeriodSeconds": 100}} | checkpoint
    progress = a_progress(checkpoint=a_checkpoint(), checkpoint_count=1, save_seconds=save_seconds)
    job = a_job(before or a_status(), checkpoint=knobs)
    trainers = a_trainer(grace_seconds=given), a_trainer(0, attempt=0, grace_seconds=1, **failed())
    observed = seen(*trainers, a_rollout(grace_seconds=1), progress=progress)
    return status(job, observed, Decision(Goal.RUN, "FirstAttempt"), NOW)


def ready(found: Status) -> Condition:
    return next(one for one in found.conditions if one.type is ConditionType.CHECKPOINT_READY)


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (None, Reason.WHOLE),
        (83.0, Reason.WHOLE),
        (84.0, Reason.GRACE_PERIOD_TOO_SHORT),
        (200.0, Reason.GRACE_PERIOD_TOO_SHORT),
    ],
)
def test_the_slowest_save_and_what_leaving_adds_must_fit(seconds: float | None, reason: Reason) -> None:
    assert (ready(told(seconds)).status, ready(told(seconds)).reason) == ("True", reason)


@pytest.mark.parametrize(("seconds", "needed"), [(45.0, ""), (46.0, "gracePeriodSeconds to 102 or more")])
def test_with_async_save_the_one_in_the_background_must_fit_too(seconds: float, needed: str) -> None:
    found = ready(told(seconds, asyncSave=True))
    assert found.reason == (Reason.GRACE_PERIOD_TOO_SHORT if needed else Reason.WHOLE)
    assert needed in found.message


def test_the_message_says_what_to_set_and_an_event_tells_it_once() -> None:
    before, after = told(10.0), told(200.0)
    assert "gracePeriodSeconds to 240 or more" in ready(after).message
    news = [(one.type, one.reason) for one in happenings(before, after)]
    assert news == [("Warning", Reason.GRACE_PERIOD_TOO_SHORT)]
    assert list(happenings(after, told(200.0, before=after))) == []


def test_what_was_measured_is_remembered_until_the_next_attempt_measures() -> None:
    later = told(None, before=told(200.0))
    assert (later.checkpoint.save_seconds, ready(later).reason) == (200.0, Reason.GRACE_PERIOD_TOO_SHORT)
    assert ready(told(10.0, before=later)).reason == Reason.WHOLE


def test_pods_that_run_keep_what_they_were_created_with() -> None:
    """The user did as the message says, and nobody has restarted the job yet."""
    edited = ready(told(200.0, onPreemption={"gracePeriodSeconds": 300}))
    assert edited.reason == Reason.GRACE_PERIOD_TOO_SHORT
    assert "killed after 100 s" in edited.message
    assert (
        "The 300 s of checkpoint.onPreemption.gracePeriodSeconds hold from the next attempt on"
        in edited.message
    )
    assert ready(told(200.0, given=300, onPreemption={"gracePeriodSeconds": 300})).reason == Reason.WHOLE
    assert ready(told(200.0, given=300)).reason == Reason.GRACE_PERIOD_TOO_SHORT, "the next ones have less"


def test_who_does_not_save_when_told_to_go_needs_no_time() -> None:
    leaves = {"save": False, "gracePeriodSeconds": 100}
    assert ready(told(200.0, onPreemption=leaves)).reason == Reason.WHOLE
