"""What of a job would be looked for in vain in a cluster is told before the job goes there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.test_command_line import rljob
from builders import manifest
from rljob_cli.document import read_document
from rljob_cli.left_behind import left_behind
from rljob_cli.load import parse_job

PYTHON = {"module": "my_rewards", "function": "boxed"}


def told(folder: Path, **spec: Any) -> list[str]:
    """The fields that are named."""
    file = folder / "job.yaml"
    file.write_text(json.dumps(manifest(**spec)))
    document = read_document(file)
    return [problem.path for problem in left_behind(document, parse_job(document).spec)]


@pytest.mark.parametrize("path", ["./questions.jsonl", "held-out.parquet", "~/questions.jsonl"])
def test_files_of_this_machine_are_named(tmp_path: Path, path: str) -> None:
    both = {"train": {"source": path}, "validation": {"source": path}}
    assert told(tmp_path, data=both) == ["spec.data.train.source", "spec.data.validation.source"]


@pytest.mark.parametrize("source", ["/data/questions.jsonl", "openai/gsm8k", "builtin:addition"])
def test_mounted_files_and_what_is_fetched_are_not(tmp_path: Path, source: str) -> None:
    assert told(tmp_path, data={"train": {"source": source}}) == []


@pytest.mark.parametrize(
    ("source", "named"), [("./mine", True), ("~/mine", True), ("/models/mine", False), ("Qwen/Qwen3", False)]
)
def test_a_model_of_this_machine_is_named(tmp_path: Path, source: str, named: bool) -> None:
    assert told(tmp_path, model={"source": source}) == ["spec.model.source"] * named


def test_a_reward_is_in_a_config_map_or_in_an_image_of_the_users_own(tmp_path: Path) -> None:
    in_a_config_map = PYTHON | {"configMapRef": {"name": "my-rewards"}}
    assert told(tmp_path, reward={"python": PYTHON}) == ["spec.reward.python"]
    assert told(tmp_path, reward={"python": in_a_config_map}) == []
    assert told(tmp_path, reward={"python": PYTHON}, trainer={"image": "mine:1"}) == []


def test_render_warns_beside_what_it_prints(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps(manifest(reward={"python": PYTHON})))
    done = rljob("render", str(file))
    assert done.exit_code == 0
    assert done.stderr.startswith(f"Warning: {file}:1:")
    assert "spec.reward.python.configMapRef" in done.stderr
    assert "Warning" not in done.stdout
