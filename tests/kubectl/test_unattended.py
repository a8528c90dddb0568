"""A job that no operator looks after, for it is another manager's or nobody has taken it up: each command says so."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from builders import NOW
from kubectl.fake_api_server import JOB, FakeApiServer
from kubectl.program import ask_cluster_of
from rljob_cli.__main__ import command_line
from rljob_cli.kubectl.jobs import Jobs
from rljob_cli.kubectl.unattended import unattended
from rljob_cli.kubectl.wait import EXIT_TIMEOUT, wait_until_over
from rljob_operator import times

MULTIKUEUE = {"managedBy": "kueue.x-k8s.io/multikueue"}
OTHERS = "Managed by kueue.x-k8s.io/multikueue (spec.managedBy): RLJob's operator leaves it alone"
NOBODY = "No operator has taken it up yet: either none runs (see `kubectl get pods -A -l app"
TOLD = {"status": {"phase": "Training"}}
ROOT = Path(__file__).parents[2]


def born(age: int) -> dict[str, str]:
    return {"namespace": "team-a", "creationTimestamp": times.to_text(NOW - age)}


@pytest.fixture
def jobs(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    ask_cluster_of(kubeconfig, monkeypatch)
    return Jobs(None, None)


@pytest.mark.parametrize(
    ("age", "more", "said"),
    [
        (11, {}, NOBODY),
        (9, {}, ""),
        (11, TOLD, ""),
        (11, {"spec": {"managedBy": "rljob.io/operator"}}, NOBODY),
        (0, {"spec": MULTIKUEUE}, OTHERS),
        (11, {"spec": MULTIKUEUE} | TOLD, OTHERS),
    ],
    ids=["for long", "just created", "taken up", "ours by name", "another's", "another's with a status"],
)
def test_why_nobody_looks_after_a_job(age: int, more: dict[str, Any], said: str) -> None:
    told = unattended({"metadata": born(age), "spec": {}} | more, NOW)
    assert told.startswith(said)
    assert bool(told) is bool(said)
    assert said != NOBODY or "`namespaces` leaves out team-a" in told


def test_the_place_that_is_named_is_there() -> None:
    row = re.search(r'see "(.*)" in (\S+)\.$', unattended({"metadata": born(60), "spec": {}}, NOW))
    assert row is not None
    assert f"| {row[1]} |" in (ROOT / row[2]).read_text()


BY = pytest.mark.parametrize(
    ("spec", "said"), [({}, NOBODY), (MULTIKUEUE, OTHERS)], ids=["nobody", "another"]
)


def run(command: str) -> str:
    """What it prints."""
    arguments = [command, JOB]
    return CliRunner().invoke(command_line(arguments, "kubectl-rljob"), arguments).stdout


@pytest.mark.usefixtures("jobs")
@BY
def test_suspend_and_resume_promise_nothing_where_nobody_does_it(
    api: FakeApiServer, spec: dict[str, Any], said: str
) -> None:
    api.phase, api.spec = "", dict(spec)
    for command, suspend in (("suspend", "true now"), ("suspend", "already true"), ("resume", "false now")):
        assert run(command).startswith(f"{JOB}: spec.suspend is {suspend}. {said}")
        assert api.spec["suspend"] is (command == "suspend")


@pytest.mark.usefixtures("jobs")
@BY
def test_status_says_it_on_its_screen(api: FakeApiServer, spec: dict[str, Any], said: str) -> None:
    api.phase, api.spec = "", spec
    assert said in " ".join(run("status").split())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("unattended.PATIENCE_SECONDS", "wait.TAKEN_UP_SECONDS"):
        monkeypatch.setattr(f"rljob_cli.kubectl.{name}", 1.0)


@pytest.mark.usefixtures("impatient")
@BY
def test_wait_says_it_once_when_nothing_came_for_a_while(
    api: FakeApiServer, jobs: Jobs, spec: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a job that was just created; nothing of it changes, so that nothing but the time tells."""
    api.phase, api.spec, api.created = "", spec, time.time()
    assert wait_until_over(jobs, JOB, timeout=4) == EXIT_TIMEOUT
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{JOB}  Pending")
    assert [line.startswith(f"{JOB}: {said}") for line in rest] == [True, False], rest
