"""Containers that run before a pod's program: on the megatron backend, the conversion of the model."""

from __future__ import annotations

import signal
from typing import Any

from cluster.toys import Toys
from pids import alive
from rljob_api.status import Phase

MEGATRON: dict[str, Any] = {"backend": "megatron"}


def test_a_trainer_starts_once_its_model_is_converted_and_the_status_says_how_far(toys: Toys) -> None:
    toys.tell("trainer-0", "hold-conversion")
    toys.start(**MEGATRON)
    now = toys.wait(lambda now: bool(now.progress.detail), "progress of the conversion")
    assert (now.phase, now.progress.detail) == (Phase.CONVERTING, "1.0 GB of 2.0 GB")
    toys.wait(lambda now: now.rollout.ready_replicas == 1, "the server boots meanwhile")
    assert toys.status.trainer.ready_replicas == 0
    assert not (toys.storage / "demo-trainer-0-1.pid").exists()
    toys.tell("trainer-0", "")
    toys.wait(lambda now: now.phase is Phase.TRAINING, "training")
    assert toys.status.progress.detail == ""
    assert toys.complete() == 0
    assert toys.log("trainer-0-1.convert") == "demo-trainer-0-1 converts\n"
    assert "lives at" in toys.log("trainer-0-1")


def test_a_conversion_that_fails_is_named_and_the_gang_tries_again(toys: Toys) -> None:
    toys.tell("trainer-0", "fail-conversion")
    toys.start(**MEGATRON)
    toys.wait(lambda now: now.restarts == 1 and now.trainer.ready_replicas == 1, "a second attempt")
    (failure,) = toys.status.failures
    assert (failure.role, failure.rank, failure.exit_code) == ("trainer", 0, 1)
    assert failure.message == "no such tensor"
    assert toys.complete() == 0


def test_without_restarts_left_its_log_and_its_last_line_are_shown(toys: Toys) -> None:
    toys.tell("trainer-0", "fail-conversion")
    toys.start(**MEGATRON, failurePolicy={"maxRestarts": 0})
    code, said = toys.end()
    assert code == 1
    assert "trainer 0, container convert, ended with exit code 1: no such tensor" in toys.status.message
    assert "^ the end of " in said
    assert "demo-trainer-0-1.convert.log" in said


def test_a_job_can_be_stopped_while_it_converts(toys: Toys) -> None:
    toys.tell("trainer-0", "hold-conversion")
    toys.start(**MEGATRON)
    toys.wait(lambda now: bool(now.progress.detail), "the conversion")
    toys.send(signal.SIGINT)
    assert toys.end()[0] == 130
    assert toys.status.phase is Phase.SUSPENDED
    assert not any(alive(pid) for pid in toys.pids())
    toys.tell("trainer-0", "")
    toys.start_ready(**MEGATRON)
    assert toys.complete() == 0
