"""Samples on the volume: whole, bounded, and shown by `rljob samples`."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from base64 import urlsafe_b64encode
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from rljob_api.samples import SampleRecord
from rljob_cli.errors import UserMistake
from rljob_cli.samples import Order, ordered, read, step_file, table
from rljob_trainer.batch import Prompt, Sample, collate
from rljob_trainer.samples import steps_kept, write_samples


def sample(text: str, number: int = 0) -> Sample:
    prompt = Prompt(index=7, text="[bold]1+1=", token_ids=[1], answer="2")
    return Sample(prompt, number, [5, 2], [-0.1, -0.2], text, "stop", 3)


def write(storage: Path, step: int, text: str = "2", **bounds: int) -> Path:
    return write_samples(storage, step, [sample(text), sample("3", 1)], [1.0, 0.0], [0.5, -0.5], **bounds)


def job(work: Path) -> Path:
    """A work directory as `rljob run` lays it out, with samples of steps 1 and 2; returns its storage."""
    storage = work / "storage" / "claim"
    (storage / "attempts").mkdir(parents=True)
    (work / "job.json").write_text("{}")
    (storage / "job.json").write_text("{}")
    for step in (1, 2):
        write(storage, step)
    return storage


def test_a_line_holds_all_there_is_to_know_of_a_sample(tmp_path: Path) -> None:
    first, second = write(tmp_path, 4).read_text().splitlines()
    assert json.loads(first) == {
        "step": 4,
        "promptIndex": 7,
        "number": 0,
        "prompt": "[bold]1+1=",
        "text": "2",
        "answer": "2",
        "reward": 1.0,
        "advantage": 0.5,
        "weightVersion": 3,
        "finishReason": "stop",
        "tokens": 2,
        "drawn": urlsafe_b64encode(struct.pack("<2i2f", 5, 2, -0.1, -0.2)).decode(),
    }
    assert SampleRecord.model_validate_json(second).number == 1


def test_training_sees_the_same_tokens_and_log_probabilities_in_a_file(tmp_path: Path) -> None:
    """To the last bit of float32, in which a batch holds them."""
    record, _ = read(write(tmp_path, 4))
    told = replace(sample("2"), token_ids=record.token_ids, logprobs=record.logprobs)
    now, then = collate([told], [0.5], pad_id=0), collate([sample("2")], [0.5], pad_id=0)
    assert torch.equal(now.tokens_BT, then.tokens_BT)
    assert torch.equal(now.rollout_logprobs_BT, then.rollout_logprobs_BT)


def test_a_file_of_an_older_version_has_no_tokens(tmp_path: Path) -> None:
    path = write(tmp_path, 4)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps(line | {"drawn": ""}) for line in lines))
    assert [(record.token_ids, record.logprobs) for record in read(path)] == [([], [])] * 2
    path.write_text(json.dumps(lines[0] | {"tokens": 3}))
    with pytest.raises(UserMistake, match="damaged"):
        read(path)


def test_drafts_of_attempts_that_were_killed_go_and_those_of_newer_ones_stay(tmp_path: Path) -> None:
    write(tmp_path, 4)
    for attempt in (1, 2, 3):
        (tmp_path / "samples" / f"draft.{attempt}").touch()
    write(tmp_path, 5, attempt=2)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "draft.3",
        "step_4.jsonl",
        "step_5.jsonl",
    ]


def test_only_the_newest_steps_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        write(tmp_path, step, keep_steps=2)
    assert list(steps_kept(tmp_path / "samples")) == [10, 11]


def test_bytes_are_bounded_but_the_step_just_written_stays(tmp_path: Path) -> None:
    size = write(tmp_path, 1).stat().st_size
    for step in (2, 3, 4):
        write(tmp_path, step, keep_bytes=2 * size)
    assert list(steps_kept(tmp_path / "samples")) == [3, 4]
    write(tmp_path, 5, text="x" * 3 * size, keep_bytes=2 * size)
    assert list(steps_kept(tmp_path / "samples")) == [5]


def test_a_step_that_is_run_again_replaces_its_file_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    write(tmp_path, 1, text="before")
    path = write(tmp_path, 1, text="after")
    assert "before" not in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["step_1.jsonl"]


def test_a_missing_step_is_told_in_a_sentence(tmp_path: Path) -> None:
    samples = job(tmp_path) / "samples"
    assert step_file(samples, None).name == "step_2.jsonl"
    with pytest.raises(UserMistake, match="no samples of step 9: steps 1 to 2 are kept"):
        step_file(samples, 9)
    with pytest.raises(UserMistake, match="yet"):
        step_file(tmp_path / "samples", 1)


def test_best_and_worst_come_first(tmp_path: Path) -> None:
    records = [SampleRecord.model_validate_json(line) for line in write(tmp_path, 1).read_text().splitlines()]
    assert [record.reward for record in ordered(records, Order.BEST)] == [1, 0]
    assert [record.reward for record in ordered(records, Order.WORST)] == [0, 1]


def test_the_command_prints_a_table_with_the_text_as_written(tmp_path: Path) -> None:
    job(tmp_path)
    printed = run(str(tmp_path), "--step", "1")
    assert "step 1: 2 samples, mean reward 0.500" in printed
    assert "[bold]1+1=" in printed


def test_on_80_columns_no_heading_is_cut(tmp_path: Path) -> None:
    console = Console(width=80)
    record = SampleRecord.model_validate_json(write(tmp_path, 1).read_text().splitlines()[0])
    long = record.model_copy(update={"prompt": "in words " * 30, "text": "9" * 99, "finish_reason": "length"})
    with console.capture() as shown:
        console.print(table([long], [long]))
    (headings,) = [line for line in shown.get().splitlines() if "prompt" in line]
    named = ["prompt", "completion", "answer", "reward", "advantage", "tokens", "weights", "ended", "by"]
    assert headings.split() == named
    assert shown.get().count("9") >= 99, "all of it is shown"


def test_the_command_prints_json_lines(tmp_path: Path) -> None:
    job(tmp_path)
    printed = run(str(tmp_path), "--output", "json", "--first", "worst", "--limit", "1")
    (line,) = map(json.loads, printed.splitlines())
    assert (line["reward"], "drawn" in line) == (0.0, False)


def test_the_command_does_not_import_torch() -> None:
    code = "import rljob_cli.samples, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def run(*arguments: str) -> str:
    import typer

    from rljob_cli.samples import samples

    app = typer.Typer()
    app.command()(samples)
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output
