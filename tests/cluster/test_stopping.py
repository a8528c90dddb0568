"""Stopping a run, by every means, and going on from there."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from builders import JOB, a_job
from cluster.toys import Toys
from pids import alive, parent
from rljob_api.status import Phase
from rljob_cli.status import status
from rljob_operator.names import ROLLOUT_PORT
from waiting import DEADLINE_SECONDS, until


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops_and_the_same_command_goes_on(
    toys: Toys, number: signal.Signals, code: int
) -> None:
    toys.start_ready(trainer={"numNodes": 2})
    uid = toys.run_of_attempt(1)["uid"]
    toys.send(number)
    stopped, said = toys.end()
    assert stopped == code
    assert "Run the same command to go on." in said
    assert toys.status.phase is Phase.SUSPENDED
    assert all((toys.storage / f"demo-trainer-{node}-1.saved").exists() for node in (0, 1))

    toys.start_ready(trainer={"numNodes": 2})
    assert toys.status.attempt is not None
    assert (toys.status.attempt.number, toys.status.attempt.reason) == (2, "Resumed")
    assert toys.run_of_attempt(2)["uid"] == uid
    assert (toys.status.restarts, toys.status.preemptions) == (0, 0)
    assert toys.complete() == 0


def test_a_second_signal_kills_without_waiting(toys: Toys, capsys: pytest.CaptureFixture[str]) -> None:
    toys.start_ready()
    toys.tell("trainer-0", "deaf")
    toys.send(signal.SIGINT)
    toys.wait(lambda now: now.phase is Phase.SUSPENDING, "suspending")
    assert shown(toys, capsys).startswith(f"{JOB}  Suspending  Pods save and stop.")
    toys.send(signal.SIGINT)
    code, said = toys.end()
    assert code == 130
    assert "without saving" in said
    assert not any(alive(pid) for pid in toys.pids())
    assert shown(toys, capsys).startswith(f"{JOB}  Suspending  Not running; the same `rljob run` goes on")


def shown(toys: Toys, capsys: pytest.CaptureFixture[str]) -> str:
    """By `rljob status`."""
    status(str(toys.work_dir.path))
    return capsys.readouterr().out


def test_a_deaf_trainer_is_killed_when_its_grace_is_over(toys: Toys) -> None:
    toys.start_ready(checkpoint={"onPreemption": {"gracePeriodSeconds": 1}})
    toys.tell("trainer-0", "deaf")
    toys.send(signal.SIGINT)
    assert toys.end()[0] == 130
    assert not (toys.storage / "demo-trainer-0-1.saved").exists()
    assert toys.status.phase is Phase.SUSPENDED


def test_a_job_that_is_suspended_in_its_file_starts_nothing(toys: Toys) -> None:
    toys.start(suspend=True)
    code, said = toys.end()
    assert code == 0
    assert "set it to false" in said
    assert toys.status.phase is Phase.SUSPENDED
    assert toys.pids() == set()


def test_nothing_survives_the_death_of_the_parent(toys: Toys) -> None:
    with_hermits(toys)
    toys.start_ready()
    pids = until_hermits(toys, 2)
    toys.send(signal.SIGKILL)
    toys.end()
    until(lambda: not any(alive(pid) for pid in pids), "all are gone", DEADLINE_SECONDS)

    toys.start()
    now = toys.wait(lambda now: now.attempt is not None and now.attempt.number == 2, "attempt 2")
    assert now.attempt is not None
    assert now.attempt.reason == "PodsGone"
    assert toys.complete() == 0


@pytest.mark.parametrize("generations", [1, 2], ids=["keeper", "guard"])
def test_nothing_of_a_pod_survives_the_death_of_a_process_around_it(toys: Toys, generations: int) -> None:
    with_hermits(toys)
    toys.start_ready()
    until_hermits(toys, 2)
    pod = toys.pid("trainer-0-1")
    hermit = int((toys.storage / "demo-trainer-0-1.hermit").read_text())
    above = pod
    for _ in range(generations):
        above = parent(above)
    os.kill(above, signal.SIGKILL)
    toys.pid("trainer-0-2")
    assert not alive(pod), "never two gangs: the new one starts when all of the old one is gone"
    assert not alive(hermit)


def test_what_a_pod_forked_ends_with_the_pod(toys: Toys) -> None:
    with_hermits(toys)
    toys.start_ready()
    pids = until_hermits(toys, 2)
    assert toys.complete() == 0
    assert not any(alive(pid) for pid in pids)


def test_a_port_in_use_is_said_in_a_sentence(toys: Toys) -> None:
    with socket.socket() as squatter:
        toys.job = a_job()
        squatter.bind((toys.address("rollout-0"), ROLLOUT_PORT))
        squatter.listen()
        toys.start(failurePolicy={"maxRestarts": 0})
        code, said = toys.end()
    assert code == 1
    assert f"port {ROLLOUT_PORT} at {toys.address('rollout-0')} is in use by another program" in said


def test_two_jobs_run_side_by_side(toys: Toys, tmp_path: Path) -> None:
    with closing(Toys(tmp_path / "other")) as other:
        other.folder.mkdir()
        toys.start_ready()
        other.start_ready()
        assert toys.complete() == other.complete() == 0


def test_a_work_directory_is_used_by_one_run_at_a_time(toys: Toys) -> None:
    toys.start_ready()
    again = subprocess.run(
        toys.process.args, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert again.returncode == 2
    assert f"already run by process {toys.process.pid}" in again.stderr
    assert toys.complete() == 0


def test_a_work_directory_that_cannot_be_made_is_said_in_a_sentence(toys: Toys) -> None:
    (toys.folder / "runs").write_text("a file where a folder is wanted")
    toys.start()
    code, said = toys.end()
    assert code == 2
    assert "cannot write to the work directory" in said
    assert "--work-dir" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("system", ["/sys", "/proc"])
def test_a_read_only_work_directory_is_said_in_a_sentence(toys: Toys, system: str) -> None:
    """Where nobody may write, root neither."""
    (toys.folder / "runs").symlink_to(system)
    toys.start()
    code, said = toys.end()
    assert code == 2
    assert said.startswith(f"cannot write to the work directory {system}/")
    assert "choose another with --work-dir" in said
    assert "Traceback" not in said


def test_a_full_work_directory_is_said_in_a_sentence(toys: Toys) -> None:
    toys.start(limit_bytes=64)
    code, said = toys.end()
    assert code == 2
    assert "cannot write to the work directory" in said
    assert "Traceback" not in said


def test_a_work_directory_that_gets_full_ends_nothing_that_runs(toys: Toys) -> None:
    toys.start_ready()
    toys.finish_a_step()
    pids, run = toys.pids(), toys.process
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    (toys.storage / "tick").write_text("")
    assert run.stderr is not None
    assert "free some space there" in (told := run.stderr.readline())
    assert "training goes on" in told
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "takes what is written again" in run.stderr.readline()
    toys.wait(lambda now: now.progress.step == 2, "the step is told")
    assert toys.pids() == pids
    assert toys.complete() == 0


def test_a_work_directory_that_is_taken_away_ends_the_run_with_a_sentence(toys: Toys) -> None:
    """And one that is put back goes on."""
    toys.start_ready()
    toys.finish_a_step()
    pids, place = toys.pids(), toys.work_dir.path
    place.rename(place.with_name("away"))
    code, said = toys.end()
    assert code == 2
    assert f"the work directory {place}, or a part of it, was removed while the job ran" in said
    assert "Traceback" not in said
    until(lambda: not any(alive(pid) for pid in pids), "all are gone", DEADLINE_SECONDS)
    shutil.rmtree(place, ignore_errors=True)
    place.with_name("away").rename(place)
    toys.start()
    toys.wait(lambda now: now.attempt is not None and now.attempt.number == 2, "it goes on")


def test_a_status_that_can_never_be_written_ends_the_run_with_a_sentence(toys: Toys) -> None:
    """A folder stands where it is written."""
    toys.start_ready()
    until(lambda: made(toys.work_dir.path / ".status.json.tmp"), "nothing is written just now")
    toys.send(signal.SIGTERM)
    code, said = toys.end()
    assert code == 2
    assert "cannot write to the work directory" in said
    assert "Traceback" not in said


def made(folder: Path) -> bool:
    """False if a file is there."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def test_ctrl_c_ends_a_job_whose_work_directory_is_full(toys: Toys) -> None:
    """What nobody could note, nobody waits for."""
    toys.start_ready()
    pids, run = toys.pids(), toys.process
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    toys.send(signal.SIGINT)
    code, said = toys.end()
    assert code == 2
    assert "cannot write to the work directory" in said
    until(lambda: not any(alive(pid) for pid in pids), "all are gone", DEADLINE_SECONDS)


def test_a_failed_job_is_tried_again_by_the_same_command(toys: Toys) -> None:
    toys.tell("trainer-0", "mistake")
    toys.start()
    assert toys.end()[0] == 1
    toys.tell("trainer-0", "")
    toys.start_ready()
    assert toys.complete() == 0
    assert toys.status.completion_time


def test_a_complete_job_is_not_run_again(toys: Toys) -> None:
    toys.start_ready()
    assert toys.complete() == 0
    before = toys.pids()
    toys.start()
    assert toys.end()[0] == 0
    assert toys.pids() == before


def with_hermits(toys: Toys) -> None:
    toys.storage.mkdir(parents=True)
    (toys.storage / "hermits").touch()


def until_hermits(toys: Toys, count: int) -> set[int]:
    until(lambda: len(list(toys.storage.glob("*.hermit"))) == count, "the hermits live", DEADLINE_SECONDS)
    return toys.pids()
