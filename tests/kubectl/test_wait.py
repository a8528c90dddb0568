"""`kubectl rljob wait` where connections are cut, the API server goes away and comes back, or the job is deleted."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kubectl.fake_api_server import JOB, FakeApiServer
from kubectl.program import ask_cluster_of, running
from rljob_api.status import ConditionType
from rljob_cli.__main__ import EXIT_MISTAKE, command_line
from rljob_cli.errors import UserMistake
from rljob_cli.kubectl.jobs import Jobs
from rljob_cli.kubectl.wait import EXIT_COMPLETE, EXIT_FAILED, EXIT_TIMEOUT, wait_until_over
from waiting import WITHIN_S, until


@pytest.fixture
def jobs(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    ask_cluster_of(kubeconfig, monkeypatch)
    return Jobs(None, None)


def test_a_wait_outlives_a_cut_stream_and_a_restart_of_the_api_server(
    api: FakeApiServer, kubeconfig: Path
) -> None:
    with running(kubeconfig, "wait", JOB) as waiting:
        until(lambda: len(api.watches) == 1, "the job is watched")
        api.watches[0].put(False)
        until(lambda: len(api.watches) == 2, "it is watched again after the cut")
        api.refusals = 1
        api.watches[1].put(False)
        until(lambda: len(api.watches) == 3, "it is watched again after the refusal")
        api.finish(ConditionType.COMPLETE)
        _, told = waiting.communicate(timeout=WITHIN_S)
    trouble = [line for line in told.splitlines() if "Training" not in line]
    assert waiting.returncode == 0
    assert len(trouble) == 2, "a cut stream alone is not worth a word"
    assert trouble[0].startswith("the API server answered 503: not now; ")
    assert trouble[1] == "the API server answers again"


def test_a_line_that_says_what_the_last_one_said_is_not_printed(
    api: FakeApiServer, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rljob_cli.kubectl.wait.QUIET_SECONDS", 0.0)
    same, api.phase, api.over = [api.job()] * 3, "Complete", ConditionType.COMPLETE
    monkeypatch.setattr(jobs, "changes", lambda *_: [*same, api.job()])
    assert wait_until_over(jobs, JOB) == EXIT_COMPLETE
    phases = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert phases == ["Training", "Complete"]


def test_who_stops_waiting_stops_no_job(kubeconfig: Path) -> None:
    with running(kubeconfig, "wait", JOB) as waiting:
        assert waiting.stderr
        assert "Training" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        _, told = waiting.communicate(timeout=WITHIN_S)
    assert waiting.returncode == 128 + signal.SIGINT, "neither Complete nor Failed"
    assert told.strip() == f"{JOB} goes on; `kubectl rljob wait {JOB}` waits again"


def test_a_phase_of_a_newer_operator_is_shown_as_it_is(
    api: FakeApiServer, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    api.phase, api.over = "Evaluating", ConditionType.COMPLETE
    assert wait_until_over(jobs, JOB) == EXIT_COMPLETE
    caveat, line = capsys.readouterr().err.splitlines()
    assert "update `rljob` here" in caveat
    assert line.startswith(f"{JOB}  Evaluating")


def test_the_help_names_every_exit_code() -> None:
    done = CliRunner().invoke(command_line(["wait"], "kubectl-rljob"), ["wait", "--help"])
    codes = (EXIT_COMPLETE, EXIT_FAILED, EXIT_MISTAKE, EXIT_TIMEOUT, 128 + signal.SIGINT)
    assert [int(code) for code in re.findall(r"(\d+):\s", done.stdout)] == list(codes)


def test_patience_has_an_end(api: FakeApiServer, jobs: Jobs) -> None:
    api.refusals = 1000
    with pytest.raises(UserMistake, match="the API server answered 503: not now"):
        wait_until_over(jobs, JOB, patience_seconds=0.1)


def test_a_timeout_holds_also_while_nobody_answers(api: FakeApiServer, jobs: Jobs) -> None:
    api.refusals = 1000
    assert wait_until_over(jobs, JOB, timeout=0.1) == EXIT_TIMEOUT


def test_a_job_that_is_deleted_meanwhile_is_not_waited_for(api: FakeApiServer, jobs: Jobs) -> None:
    api.deleted = True
    with pytest.raises(UserMistake, match=f"`{JOB}` was deleted before it was over"):
        wait_until_over(jobs, JOB)
