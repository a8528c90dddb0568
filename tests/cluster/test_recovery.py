"""What happens when pods die: real processes, real signals, toy pods."""

from __future__ import annotations

import os
import signal

from cluster.toys import Toys
from rljob_api.status import AttemptStatus, Phase, Status


def test_a_job_of_two_nodes_runs_to_its_end(toys: Toys) -> None:
    toys.start_ready(trainer={"numNodes": 2}, rollout={"replicas": 2})
    assert toys.complete() == 0
    assert toys.status.phase is Phase.COMPLETE
    assert toys.status.restarts == 0


def test_a_killed_trainer_restarts_the_gang_while_the_server_stays(toys: Toys) -> None:
    toys.start_ready(trainer={"numNodes": 2})
    server, other = toys.pid("rollout-0-0"), toys.pid("trainer-0-1")
    os.kill(toys.pid("trainer-1-1"), signal.SIGKILL)
    toys.wait(lambda now: now.trainer.ready == "2/2" and attempt(now).number == 2, "attempt 2 ready")
    assert toys.pid("trainer-0-2") != other
    assert (toys.storage / "demo-trainer-0-1.saved").exists(), (
        "the other node was told to save before it went"
    )
    assert toys.pid("rollout-0-0") == server
    assert not list(toys.storage.glob("demo-rollout-0-1.pid"))
    assert (toys.status.restarts, toys.status.restarts_count_towards_max) == (1, 1)
    assert [failure.exit_code for failure in toys.status.failures] == [137]
    assert toys.run_of_attempt(1)["token"] != toys.run_of_attempt(2)["token"]
    assert toys.control_token_of("trainer-0-2") == toys.control_token_of("rollout-0-0") != ""
    assert toys.complete() == 0


def test_a_killed_server_is_replaced_while_the_trainer_goes_on(toys: Toys) -> None:
    toys.start_ready(rollout={"replicas": 2})
    trainer, neighbour = toys.pid("trainer-0-1"), toys.pid("rollout-1-0")
    os.kill(toys.pid("rollout-0-0"), signal.SIGKILL)
    toys.finish_a_step()
    toys.pid("rollout-0-1")
    toys.wait(lambda now: now.rollout.ready == "2/2", "both servers ready again")
    assert attempt(toys.status).number == 1
    assert (toys.pid("trainer-0-1"), toys.pid("rollout-1-0")) == (trainer, neighbour)
    assert toys.status.failures[-1].message.startswith("it was ended by SIGKILL")
    assert toys.complete() == 0


def test_a_server_that_the_trainer_gave_up_is_replaced(toys: Toys) -> None:
    toys.start_ready()
    toys.tell("trainer-0", "broken")
    toys.pid("rollout-0-1")
    assert (toys.storage / "demo-rollout-0-0.saved").exists(), "it was told to go, not killed"
    assert toys.status.failures[-1].message == "it answers nonsense"
    toys.wait(lambda now: now.rollout.ready == "1/1", "the new server is ready")
    assert toys.status.rollout.restarts == 1, "the new server is not meant by the old complaint"


def test_while_servers_are_too_few_the_status_says_what_training_waits_for(toys: Toys) -> None:
    toys.start_ready()
    toys.tell("trainer-0", "wait")
    now = toys.wait(lambda now: bool(now.message), "the trainer waits")
    assert (now.message, now.progress.phase) == ("Training waits: 0 of 1 rollout servers are up.", "Wait")


def test_failures_beyond_max_restarts_fail_the_job(toys: Toys) -> None:
    toys.tell("trainer-0", "fail-always")
    toys.start(failurePolicy={"maxRestarts": 2, "backoffSeconds": {"initial": 0, "max": 0}})
    code, said = toys.end()
    assert code == 1
    assert attempt(toys.status).number == 3
    assert "it always fails (after 2 restarts; failurePolicy.maxRestarts is 2)" in said


def test_a_mistake_fails_the_job_at_once(toys: Toys) -> None:
    toys.tell("trainer-0", "mistake")
    toys.start()
    code, said = toys.end()
    assert code == 1
    assert attempt(toys.status).number == 1
    assert "no such model" in said


def test_a_resume_that_is_not_exact_enough_ends_the_command_and_the_same_one_looks_again(toys: Toys) -> None:
    toys.tell("trainer-0", "unmet")
    toys.start()
    code, said = toys.end()
    assert code == 3
    assert "torch was 1 and is 2" in said
    assert toys.status.failures == [], "nothing has failed"
    toys.tell("trainer-0", "complete")
    toys.start()
    assert toys.end()[0] == 0
    assert attempt(toys.status).number == 2


def test_a_full_volume_is_tried_again_without_being_counted_until_there_is_room(toys: Toys) -> None:
    toys.tell("trainer-0", "full")
    toys.start(failurePolicy={"maxRestarts": 0, "backoffSeconds": {"initial": 0, "max": 0}})
    now = toys.wait(lambda now: attempt(now).number > 2, "it is tried again and again")
    assert now.restarts_count_towards_max == 0
    assert {failure.message for failure in now.failures} == {"the volume is full"}
    toys.tell("trainer-0", "complete")
    assert toys.end()[0] == 0


def test_a_failure_without_words_shows_the_end_of_the_log(toys: Toys) -> None:
    toys.tell("trainer-0", "silent")
    toys.start(failurePolicy={"maxRestarts": 0})
    code, said = toys.end()
    assert code == 1
    assert "the last line of the log" in said
    assert "exit code 3" in said


def test_a_preempted_gang_starts_again_without_being_counted(toys: Toys) -> None:
    toys.start_ready(failurePolicy={"maxRestarts": 0})
    toys.tell("trainer-0", "leave")
    toys.wait(lambda now: attempt(now).number == 2 and now.trainer.ready == "1/1", "attempt 2")
    assert toys.status.preemptions == 1
    assert toys.status.restarts_count_towards_max == 0
    assert toys.status.failures == []


def test_the_gang_waits_out_its_pause(toys: Toys) -> None:
    toys.start_ready(failurePolicy={"backoffSeconds": {"initial": 3600, "max": 3600}})
    toys.tell("trainer-0", "fail")
    now = toys.wait(lambda now: now.phase is Phase.RESTARTING, "the pause")
    assert "The trainer gang restarts" in now.message
    assert attempt(now).number == 1
    assert now.rollout.ready == "1/1", "servers stay during the pause"


def attempt(status: Status) -> AttemptStatus:
    return status.attempt or AttemptStatus(number=0)
