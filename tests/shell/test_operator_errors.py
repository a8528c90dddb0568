"""A mistake of the operator's own in the pass over one job: the job says so, and it is of no concern to another."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from builders import NOW, a_status, an_attempt
from kube.api import Manifest
from rljob_api.job import RLJob
from rljob_api.progress import MESSAGE_LIMIT
from rljob_api.status import Status
from rljob_operator import reconcile as room
from rljob_operator import refusal, run_cluster
from rljob_operator.reconcile import Pass
from rljob_operator.refusal import ERROR_LIMIT, given_up

from . import virtual_time
from .places import condition
from .world import World, until

in_virtual_time = pytest.mark.usefixtures("virtual_time")
SAID = "The operator failed at this job: KeyError: 'nowhere'. It tries again; "
FOR_LONG = 1_000.0
"""Many of the longest pauses."""


def status_of(world: World, name: str) -> Manifest:
    return dict(world.jobs()[name].get("status") or {})


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async def reconcile(job: RLJob, *others: Any) -> Pass:
        if job.metadata.name == name:
            raise KeyError("nowhere")
        return await room.reconcile(job, *others)

    monkeypatch.setattr(run_cluster, "reconcile", reconcile)


async def of_two_one_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Manifest, int]:
    """The status of the one after a long time, in which the other completes, and how often it was written; both are
    Complete in the end."""
    with monkeypatch.context() as broken:
        fail_at(broken, "bad")
        nodes = asyncio.create_task(world.nodes.run())
        world.start_operator()
        world.submit("bad")
        world.submit("good")
        assert await until(lambda: world.phases()["good"] == "Complete")
        await asyncio.sleep(FOR_LONG)
        told, written = status_of(world, "bad"), writes_of(world, "bad")
    assert await until(lambda: world.phases()["bad"] == "Complete")
    nodes.cancel()
    await world.crash_operator()
    return told, written


def writes_of(world: World, name: str) -> int:
    """Of the job, but for its creation."""
    about = [one.object["metadata"]["name"] for one in world.api.changes if one.plural == "rljobs"]
    return about.count(name) - 1


@in_virtual_time
def test_the_job_says_it_once_until_a_pass_ends_well_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    told, written = virtual_time.run(of_two_one_fails(world, monkeypatch))
    accepted = condition(told, "Accepted")
    assert (accepted["status"], accepted["reason"], accepted["observedGeneration"]) == (
        "False",
        "OperatorError",
        1,
    )
    assert accepted["message"].startswith(SAID)
    assert told["message"] == accepted["message"]
    assert written == 1
    after = status_of(world, "bad")
    assert (condition(after, "Accepted")["reason"], after.get("message", "")) == ("Valid", "")
    events = [one for one in world.api.all("events") if one["reason"] == "OperatorError"]
    assert [one["involvedObject"]["name"] for one in events] == ["bad"]
    errors = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert {one.getMessage() for one in errors} == {"the pass failed and is tried again"}
    assert all(one.exc_info for one in errors)


@in_virtual_time
def test_that_it_cannot_be_told_stops_nothing_either(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Status:
        raise ValueError("no words")

    monkeypatch.setattr(run_cluster, "given_up", fail)
    told, written = virtual_time.run(of_two_one_fails(World(), monkeypatch))
    assert (told, written) == ({}, 0)
    assert "nor can the job be told of it" in caplog.text


def test_what_the_next_pass_goes_by_stays() -> None:
    """Why a gang gave its pods back is read in the message, and the generation says that an edit was not seen."""
    attempt = an_attempt(given_back_time="2026-01-01T00:00:00Z", given_back_reason="Unschedulable")
    before = Status(attempt=attempt, message="no room", observed_generation=1)
    after = given_up(before, 2, KeyError("nowhere"), NOW)
    assert after.model_copy(update={"conditions": []}) == before
    assert [(one.reason, one.observed_generation) for one in after.conditions] == [("OperatorError", 2)]


def test_what_was_said_already_changes_nothing() -> None:
    once = given_up(a_status(), 1, KeyError("nowhere"), NOW)
    assert given_up(once, 1, KeyError("nowhere"), NOW + 60) == once


def test_a_long_error_leaves_room_for_what_to_do() -> None:
    message = given_up(a_status(), 1, ValueError("no\n" * MESSAGE_LIMIT), NOW).message
    assert "\n" not in message
    assert message.endswith(refusal.UNTIL_MENDED)
    assert ERROR_LIMIT < len(message) <= MESSAGE_LIMIT
