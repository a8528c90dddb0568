"""The three ways in which `rljob run` tells of a job, and `rljob status` and `rljob logs` beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from builders import NOW, a_job
from cli.a_status import generating, training
from rljob_api.reasons import Reason
from rljob_api.status import Condition, ConditionType, Phase, Status
from rljob_cli.__main__ import command_line
from rljob_cli.display import Display, JsonLines, LiveDisplay, PlainLines
from rljob_operator.cluster.workdir import WorkDir
from rljob_operator.decide import Decision, Goal
from rljob_operator.observed import Observed
from rljob_operator.reconcile import Pass


def shown(display: Display, *statuses: Status) -> None:
    """A job's life, as the loop tells it to a display."""
    display.open()
    for status in statuses:
        display.show(a_job(status), Pass(Observed(progress=generating()), Decision(Goal.RUN, ""), status))
    display.close()
    display.say("The end.")


def test_json_is_the_status_whenever_it_changed_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = training(), training(restarts=2)
    shown(JsonLines(), first, first, second)
    out, err = capsys.readouterr()
    assert [Status.model_validate_json(line) for line in out.splitlines()] == [first, second]
    assert err == "The end.\n"
    assert json.loads(out.splitlines()[0])["progress"]["totalSteps"] == 60, "named as in a cluster"


def test_plain_lines_come_when_there_is_something_new_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    unread = training().model_copy(update={"observed_generation": 7})
    shown(PlainLines(), training(), unread, training(restarts=2))
    first, second, end = capsys.readouterr().out.splitlines()
    assert first[8:] == (
        "  demo  Training  step 24/60  generate  reward 0.6113  held-out accuracy 0.624  KL nan"
        "  trainers 1/1  rollouts 1/2  restarts 1"
    )
    assert second.endswith("restarts 2")
    assert end == "The end."


@pytest.mark.parametrize("display", [PlainLines, LiveDisplay])
def test_what_happened_is_told_once_in_a_sentence(
    display: Callable[[], Display], capsys: pytest.CaptureFixture[str]
) -> None:
    said = "The newest checkpoint is step 2. Step 4 was passed over: damaged."
    passed_over = Condition(
        type=ConditionType.CHECKPOINT_READY, status="True", reason="CheckpointPassedOver", message=said
    )
    after = training().model_copy(update={"conditions": [passed_over]})
    shown = display()
    for before in (training(), after):
        shown.show(a_job(before), Pass(Observed(), Decision(Goal.RUN, ""), after))
    assert "".join(capsys.readouterr().out.split("\n")).count(said) == 1


def test_the_live_display_leaves_the_last_panel_behind(capsys: pytest.CaptureFixture[str]) -> None:
    shown(LiveDisplay(), training(), training(restarts=2))
    out = capsys.readouterr().out
    assert out.count("17 of 64 prompts") >= 1
    assert out.endswith("The end.\n")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkDir]:
    """A work directory under `runs/` that is at work, with a status and two logs."""
    monkeypatch.chdir(tmp_path)
    work_dir = WorkDir(Path("runs/sums"))
    work_dir.open()
    (work_dir.path / "job.json").write_text("{}")
    work_dir.write_status(training())
    for number, (name, text) in enumerate({"trainer-0": "one\ntwo\nthree\n", "rollout-0": "up\n"}.items()):
        log = work_dir.logs / f"sums-{name}.log"
        log.write_text(text)
        os.utime(log, (NOW + number, NOW + number))
    yield work_dir
    work_dir.close()


def rljob(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(command_line(list(words)), list(words))


def test_status_is_the_panel_or_the_status_as_it_is(job: WorkDir) -> None:
    text = rljob("status", "sums").stdout
    assert "sums  Training  step 24/60 (40 %), about 1 h 2 min left" in text
    assert Status.model_validate_json(rljob("status", "-o", "json").stdout) == training()


def test_a_job_that_nobody_runs_any_more_says_so_unless_it_is_over(job: WorkDir) -> None:
    job.close()
    told = rljob("status").stdout
    assert "sums  Training  Not running; the same `rljob run` goes on" in told
    assert "about 1 h" not in told
    assert "phase" not in told
    assert "trainers           0/1 ready" in told
    job.write_status(training(phase=Phase.COMPLETE))
    assert "Not running" not in rljob("status").stdout


def test_a_job_that_waits_for_a_choice_is_not_said_to_go_on_by_itself(job: WorkDir) -> None:
    job.close()
    unmet = Condition(type=ConditionType.PROGRESSING, status="False", reason=Reason.EXACTNESS_UNMET)
    asks = "spec.resume.exactness is Exact, and so on."
    job.write_status(training(phase=Phase.PENDING, message=asks, conditions=[unmet]))
    told = rljob("status").stdout
    assert asks in told
    assert "Not running" not in told


def test_where_there_is_no_terminal_no_sentence_is_broken_and_none_padded(
    job: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = "what is wrong and what to do " * 10 + "is in one piece"
    job.write_status(training(message=sentence))
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = CliRunner().invoke(command_line(["status"]), ["status"]).stdout.splitlines()
    assert lines[0] == f"sums  Training  {sentence}"
    assert max(map(len, lines[1:])) < 200


def test_a_job_without_a_status_is_told_in_a_sentence(job: WorkDir) -> None:
    (job.path / "status.json").unlink()
    assert "has no status yet: `rljob run` with the job's file writes it" in str(rljob("status").exception)


def test_a_damaged_status_is_told_in_a_sentence(job: WorkDir) -> None:
    for damage in (b"", b"{", b"[]", b"\xff"):
        (job.path / "status.json").write_bytes(damage)
        assert str(rljob("status").exception).endswith(
            "sums/status.json is damaged; remove it, and the next `rljob run` writes it anew"
        )


def test_a_status_that_a_newer_rljob_wrote_is_not_called_damaged(job: WorkDir) -> None:
    file = job.path / "status.json"
    told = json.loads(file.read_text()) | {"phase": "Evaluating", "somethingNew": 1}
    told["conditions"] = [{"type": "Evaluated", "status": "True", "reason": "New"}]
    file.write_text(json.dumps(told))
    words = "was written by a newer rljob: this one does not know what it says in phase, conditions.0.type; update"
    assert words in str(rljob("status").exception)


def test_logs_before_any_pod_are_told_in_a_sentence(job: WorkDir) -> None:
    for log in job.logs.iterdir():
        log.unlink()
    assert str(rljob("logs").exception) == f"no pod has said anything yet: there is no log in {job.logs}"


def test_logs_are_the_last_lines_of_each_pod_the_newest_last(job: WorkDir) -> None:
    assert rljob("logs", "sums", "--tail", "2").stdout.splitlines() == [
        "==> sums-trainer-0 <==",
        "two",
        "three",
        "==> sums-rollout-0 <==",
        "up",
    ]
    assert rljob("logs", "--pod", "rollout").stdout == "==> sums-rollout-0 <==\nup\n"
    assert rljob("logs", "--role", "rollout").stdout == "==> sums-rollout-0 <==\nup\n"


def test_logs_of_a_role_are_those_of_its_init_containers_too_whatever_the_job_is_called(job: WorkDir) -> None:
    for log in job.logs.iterdir():
        log.unlink()
    for name in ("a-rollout-0-trainer-0-1", "a-rollout-0-trainer-0-1.convert", "a-rollout-0-rollout-1-2"):
        (job.logs / f"{name}.log").touch()
    shown = rljob("logs", "--role", "trainer").stdout.splitlines()
    assert sorted(shown) == ["==> a-rollout-0-trainer-0-1 <==", "==> a-rollout-0-trainer-0-1.convert <=="]
    assert rljob("logs", "--role", "rollout").stdout == "==> a-rollout-0-rollout-1-2 <==\n"


def test_logs_of_a_pod_that_is_not_there_name_those_that_are(job: WorkDir) -> None:
    told = str(rljob("logs", "--pod", "trainer-7").exception)
    assert "no log of a pod like `trainer-7`" in told
    assert told.endswith("there are: sums-rollout-0, sums-trainer-0")
    told = str(rljob("logs", "--role", "rollout", "--pod", "7").exception)
    assert "no log of a rollout pod like `7`" in told


def test_a_log_is_shown_also_where_the_terminal_lacks_its_letters(job: WorkDir) -> None:
    (job.logs / "sums-trainer-0.log").write_text("loss of 漢字\n")
    shown = subprocess.run(
        [sys.executable, "-m", "rljob_cli", "logs", "--pod", "trainer"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert shown.stdout.splitlines()[-1] == b"loss of ??", shown.stderr


def test_logs_can_be_followed_also_those_of_new_pods(job: WorkDir) -> None:
    program = "from rljob_cli.__main__ import main; main()"
    command = [sys.executable, "-u", "-c", program, "logs", "sums", "-f", "--tail", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout
            assert [following.stdout.readline() for _ in range(2)] == [
                "==> sums-trainer-0 <==\n",
                "==> sums-rollout-0 <==\n",
            ]
            (job.logs / "sums-trainer-0-2.log").write_text("four\n")
            assert [following.stdout.readline() for _ in range(2)] == ["==> sums-trainer-0-2 <==\n", "four\n"]
        finally:
            following.terminate()
