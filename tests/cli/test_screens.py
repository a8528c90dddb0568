"""What people read of a job's status, letter for letter: the panel, the plain line, and their parts."""

from __future__ import annotations

from textwrap import dedent

import pytest
from rich.console import Console
from rich.table import Table

from builders import NOW, a_status
from cli.a_status import CHECKPOINT, generating, training
from rljob_api.progress import Progress
from rljob_api.status import (
    AttemptStatus,
    CheckpointStatus,
    Condition,
    ConditionType,
    Exactness,
    Failure,
    Metric,
    Phase,
    RoleStatus,
    RolloutStatus,
    Status,
)
from rljob_cli.output import show
from rljob_cli.panel import checkpoint_line, panel, phase_line, role_line, rollout_line
from rljob_cli.restarts import restart_line, resume_line
from rljob_cli.words import duration, reward_trend, size, summary


def screen(status: Status, progress: Progress | None = None, hint: str = "", width: int = 80) -> str:
    """As a terminal without colours shows it, where the rest of the bar is invisible."""
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(panel("sums", status, progress, NOW, [hint] if hint else []))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def test_the_panel_of_a_job_that_trains() -> None:
    assert screen(training(), generating()) == dedent("""\
        sums  Training  step 24/60 (40 %), about 1 h 2 min left
        ━━━━━━━━━━━━━━━━━━━━━━━━
        phase              Generate  17 of 64 prompts
        reward             0.6113 (+0.021 over 23 steps)
        held-out accuracy  0.624
        KL                 nan
        checkpoint         step 20, 3 min 5 s ago, 3.0 MiB, verified, RNG and optimizer
                           included; 2 kept
        trainers           1/1 ready, restarted once
        last restart       after step 23: trainer 1 ended with exit code 137: no memory
                           left
        resumed            attempt 2 from step 20, exactly, 3 steps lost
        rollouts           1/2 ready, restarted 2 times, weights v24 by gloo""")


def test_the_panel_is_one_screen_whatever_a_program_said() -> None:
    long = Failure(role="trainer", rank=0, attempt=1, message="[/bin/sh] " * 500)
    lines = screen(training(failures=[long]), generating()).splitlines()
    assert len(lines) <= 24
    assert any("trainer 0 ended: [/bin/sh] [/bin/sh]" in line for line in lines)
    assert any(line.endswith("…") for line in lines)


def test_the_panel_of_a_job_that_failed_says_why_and_no_more() -> None:
    failed = a_status().model_copy(
        update={"phase": Phase.FAILED, "message": "rank 1 was ended by SIGKILL", "attempt": None}
    )
    assert screen(failed) == dedent("""\
        sums  Failed  rank 1 was ended by SIGKILL
        checkpoint  none yet
        trainers    0/0 ready
        rollouts    0/0 ready""")


@pytest.mark.parametrize("width", [80, 24])
def test_what_is_wrong_and_what_to_do_stand_directly_behind_name_and_phase(width: int) -> None:
    pending = training(phase=Phase.PENDING, message="2 of 4 pods cannot be scheduled")
    first, _, rest = screen(pending, hint="Fewer nodes: trainer.numNodes 3", width=width).partition("━")
    said = "sums Pending 2 of 4 pods cannot be scheduled Fewer nodes: trainer.numNodes 3"
    assert " ".join(first.split()) == said
    assert "24/60 (40 %)" in " ".join(rest.split()), "where it stands is in a row then"


def test_the_plain_line_has_the_same_in_short() -> None:
    assert summary("sums", training(message="rollout 1 is being replaced")) == (
        "sums  Training  step 24/60  generate  reward 0.6113  held-out accuracy 0.624  KL nan"
        "  trainers 1/1  rollouts 1/2  restarts 1  rollout 1 is being replaced"
    )


def test_once_a_job_is_over_pods_that_go_change_nothing_in_its_line() -> None:
    over, gone = training(phase=Phase.COMPLETE), RolloutStatus(replicas=0, ready_replicas=0, ready="0/0")
    assert summary("sums", over) == summary("sums", over.model_copy(update={"rollout": gone}))


def test_a_phase_without_a_sign_of_life_is_pointed_out() -> None:
    assert phase_line(training(), generating(15), NOW) == "Generate  17 of 64 prompts"
    assert phase_line(training(), generating(75), NOW).endswith("no sign of life for 1 min 15 s")
    over = training(phase=Phase.COMPLETE)
    assert phase_line(over, generating(75), NOW) == "", "nobody is expected to give one"


@pytest.mark.parametrize(
    ("phase", "damaged", "words"),
    [
        (Phase.TRAINING, False, "not read back yet"),
        (Phase.COMPLETE, False, "not read back"),
        (Phase.TRAINING, True, "damaged"),
    ],
)
def test_a_checkpoint_that_was_not_verified_is_called_so(phase: Phase, damaged: bool, words: str) -> None:
    latest = training().checkpoint.latest
    assert latest
    facts = latest.model_copy(update={"verified": False, "damaged": damaged})
    kept = CheckpointStatus(latest=facts, count=1)
    shown = checkpoint_line(training(phase=phase, checkpoint=kept), NOW)
    assert f"3.0 MiB, {words}, RNG and optimizer included; 1 kept" in shown


@pytest.mark.parametrize(
    ("rng", "optimizer", "words"),
    [
        (True, True, "RNG and optimizer included"),
        (True, False, "RNG included, optimizer not"),
        (False, True, "optimizer included, RNG not"),
        (False, False, "weights alone"),
    ],
)
def test_a_checkpoint_says_what_a_restart_would_find_in_it(rng: bool, optimizer: bool, words: str) -> None:
    latest = CHECKPOINT.model_copy(update={"has_rng": rng, "has_optimizer": optimizer})
    held = CheckpointStatus(latest=latest, count=1)
    assert checkpoint_line(training(checkpoint=held), NOW).endswith(f"verified, {words}; 1 kept")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("FirstAttempt", ""),
        ("PodFailed", "after step 23: trainer 1 ended with exit code 137: no memory left"),
        ("Preempted", "after step 23: the cluster took a trainer pod away, or told it to go"),
        ("SomethingNew", "after step 23: SomethingNew"),
    ],
)
def test_the_last_restart_says_where_and_why(reason: str, words: str) -> None:
    attempt = training().attempt
    assert attempt
    assert restart_line(training(attempt=attempt.model_copy(update={"reason": reason}))) == words


def test_until_the_trainer_tells_where_it_goes_on_only_the_reason_is_known() -> None:
    starting = AttemptStatus(number=2, reason="PodsGone")
    assert restart_line(training(attempt=starting)) == "trainer pods were gone"


def test_a_failure_of_another_attempt_or_role_is_no_reason() -> None:
    others = [Failure(role="rollout", rank=0, attempt=1), Failure(role="trainer", rank=0, attempt=0)]
    assert restart_line(training(failures=others)) == "after step 23: a trainer pod failed"


def test_where_nobody_tells_at_once_the_phase_is_the_last_one_known() -> None:
    assert phase_line(training(), None, NOW) == "Generate"
    loads = training().progress.model_copy(update={"phase": "Load", "detail": "reading 3 of 8 shards"})
    assert phase_line(training(phase=Phase.STARTING, progress=loads), None, NOW) == (
        "Load  reading 3 of 8 shards"
    )
    assert phase_line(a_status().model_copy(update={"phase": Phase.STARTING}), None, NOW) == ""


@pytest.mark.parametrize(
    ("exactness", "words"),
    [
        (Exactness.EXACT, "attempt 3 from step 7, exactly"),
        (Exactness.LOSSLESS, "attempt 3 from step 7, not bit for bit"),
        (Exactness.BEST_EFFORT, "attempt 3 from step 7, as well as could be"),
        (None, ""),
    ],
)
def test_a_resume_says_how_exact_it_was(exactness: Exactness | None, words: str) -> None:
    attempt = AttemptStatus(number=3, from_step=7, lost_steps=0, exactness=exactness)
    assert resume_line(training(attempt=attempt)) == words


def test_a_trend_over_one_step_is_of_one_step() -> None:
    told = [Metric(name="reward_change", value="0.027"), Metric(name="reward_change_steps", value="1")]
    progress = training().progress.model_copy(update={"metrics": told})
    assert reward_trend(training(progress=progress)) == "+0.027 over 1 step"


def test_a_resume_says_why_it_is_not_exact() -> None:
    attempt = AttemptStatus(number=3, from_step=7, lost_steps=1, exactness=Exactness.LOSSLESS)
    because = Condition(
        type=ConditionType.RESUME_EXACT,
        status="False",
        reason="Lossless",
        message="Went on from step 7; not bit for bit, because torch was 2.11 and is 2.12.",
    )
    of_another = because.model_copy(update={"reason": "BestEffort"})
    assert resume_line(training(attempt=attempt, conditions=[because])) == (
        f"attempt 3, 1 step lost: {because.message}"
    )
    assert resume_line(training(attempt=attempt, conditions=[of_another])) == (
        "attempt 3 from step 7, not bit for bit, 1 step lost"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (31230, "8 h 40 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (5 * 2**40, "5.0 TiB")],
)
def test_sizes_are_in_powers_of_1024(count: int, words: str) -> None:
    assert size(count) == words


def test_restarts_are_told_only_when_there_were_any() -> None:
    told = [role_line(RoleStatus(ready="1/1", restarts=times)) for times in (0, 1, 2)]
    assert told == ["1/1 ready", "1/1 ready, restarted once", "1/1 ready, restarted 2 times"]


def test_weights_are_told_when_there_are_any() -> None:
    assert rollout_line(RolloutStatus(ready="0/1")) == "0/1 ready"
    assert rollout_line(RolloutStatus(ready="1/1", weight_version=412)) == "1/1 ready, weights v412"


def test_where_there_is_no_screen_lines_are_unbroken_and_end_with_their_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    rows = Table(box=None, pad_edge=False, show_header=False)
    long = "word " * 100 + "end"
    rows.add_row("a", long)
    rows.add_row("b", "short")
    show(rows)
    assert capsys.readouterr().out == f"a  {long}\nb  short\n"
