"""What `rljob validate` says about job files, word for word where the words are the point."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import NoReturn

import pytest
from typer.testing import CliRunner

from api.test_reaches import OF_CHECKPOINTS
from rljob_api.fields import below, field
from rljob_api.job import RLJob
from rljob_cli.__main__ import command_line
from rljob_cli.errors import InvalidJob, Problem
from rljob_cli.load import load_job
from rljob_cli.validate import problems_of
from rljob_trainer.checkpoint.facts import changes, result_facts
from rljob_trainer.errors import Mistake
from rljob_trainer.model_source import checked_directory

ROOT = Path(__file__).parents[2]
GOOD = """\
apiVersion: rljob.io/v1alpha1
kind: RLJob
metadata: {name: adds}
spec:
  model: {source: "builtin:addition"}
  data:
    train: {source: "builtin:addition"}
  reward: {builtin: exactMatch}
  algorithm:
    grpo: {learningRate: 1e-6}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "job.yaml"
    file.write_text(dedent(text))
    return file


def said(folder: Path, text: str) -> list[str]:
    """What is said about a file of this text, without the folder's name."""
    return [str(problem).removeprefix(f"{folder}/") for problem in problems_of(written(folder, text))]


def test_a_good_file_is_an_rljob(tmp_path: Path) -> None:
    job = load_job(written(tmp_path, GOOD))
    assert isinstance(job, RLJob)
    assert job.spec.algorithm.grpo.learning_rate == 1e-6


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_valid_and_names_its_schema(example: Path) -> None:
    load_job(example)
    schema = example.read_text().partition("$schema=")[2].partition("\n")[0]
    assert (example.parent / schema).is_file()


COMMENTED = re.compile(r"^( +)# (\w+: .*)$", re.MULTILINE)
KNOBS = (ROOT / "examples" / "grpo-8b-megatron.yaml").read_text()


@pytest.mark.parametrize("line", [*COMMENTED.finditer(KNOBS)], ids=lambda line: line[2].partition(":")[0])
def test_a_commented_line_is_ready_to_use_and_shows_the_default(tmp_path: Path, line: re.Match[str]) -> None:
    text = KNOBS[: line.start()] + line[1] + line[2] + KNOBS[line.end() :]
    with_it, without = load_job(written(tmp_path, text)).spec, load_job(written(tmp_path, KNOBS)).spec
    assert (with_it == without) is ("absent" not in line[2]), "a knob that has no default says so"
    assert with_it.model_fields_set >= without.model_fields_set


def test_every_knob_of_megatron_has_its_line() -> None:
    blocks = ("spec.megatron", "spec.parallelism")
    knobs = {one.path.rpartition(".")[2] for block in blocks for one in below(field(block))}
    assert {knob for knob in knobs | {*OF_CHECKPOINTS} if not re.search(rf"\b{knob}:", KNOBS)} == set()


def test_every_mistake_is_told_with_its_place_and_the_next_step(tmp_path: Path) -> None:
    text = GOOD.replace("learningRate: 1e-6", "learningRate: fast, maxstep: 1")
    text = text.replace("kind: RLJob\n", "").replace('{source: "builtin:addition"}', "{}", 1)
    kind, source, rate, steps = said(tmp_path, text)
    assert kind == "job.yaml:1:1: kind: write `kind: RLJob`."
    assert source == (
        "job.yaml:4:3: spec.model.source: it is missing: write a text of 1 to 1024 characters."
        " See `rljob explain spec.model.source`."
    )
    assert rate == (
        'job.yaml:9:26: spec.algorithm.grpo.learningRate: "fast" does not fit: it must be a number from 0 to 1.'
        " See `rljob explain spec.algorithm.grpo.learningRate`."
    )
    assert steps == (
        "job.yaml:9:32: spec.algorithm.grpo.maxstep: there is no field `maxstep` here. Did you mean `maxSteps`?"
    )


def test_a_number_where_a_text_belongs_is_told_to_be_quoted(tmp_path: Path) -> None:
    text = GOOD + "    sampling: {temperature: 0.7}\n"
    (line,) = said(tmp_path, text)
    assert line.startswith(
        "job.yaml:11:29: spec.algorithm.sampling.temperature: 0.7 does not fit: it must be a text"
    )
    assert ' Put it in quotes: "0.7".' in line


def test_a_path_that_must_be_absolute_is_said_to_be_one(tmp_path: Path) -> None:
    (line,) = said(tmp_path, GOOD + "  initialCheckpoint: {path: ./warm}\n")
    assert '"./warm" does not fit: it must be an absolute path, without a slash at its end.' in line


def test_every_broken_rule_is_told_at_its_field(tmp_path: Path) -> None:
    text = GOOD + "  rollout:\n    minReplicas: 2\n  weightSync: {transport: nccl}\n"
    first, second = said(tmp_path, text)
    assert first.startswith("job.yaml:12:18: spec.rollout.minReplicas: training would wait for ever")
    assert second.startswith("job.yaml:13:27: spec.weightSync.transport: `nccl` needs GPUs")


def test_a_rule_about_an_absent_field_points_at_its_nearest_parent(tmp_path: Path) -> None:
    (line,) = said(tmp_path, GOOD + "  parallelism: {tensor: 2}\n  rollout: {vllm: {}}\n")
    assert line.startswith("job.yaml:11:16: spec.parallelism: 1 is not a multiple of 2: ranks")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "job.yaml: the file is empty; write one RLJob into it."),
        ("---\n# nothing yet\n", "job.yaml: the file is empty; write one RLJob into it."),
        (
            GOOD + "---\n" + GOOD,
            "job.yaml:12:1: a second document starts here; write one RLJob per file and no `---` after it.",
        ),
        (
            "- a\n",
            "job.yaml:1:1: an RLJob is a mapping that starts with `apiVersion:`, and this is a sequence.",
        ),
        (
            "a: 1\na: 2\n",
            'job.yaml:2:1: not YAML: found duplicate key "a" with value "2" (original value: "1")',
        ),
        ("a: [1\nb: 2\n", "job.yaml:2:2: not YAML: expected ',' or ']', but got ':'"),
        ("a: !!python/name:os.system x\n", "job.yaml:1:4: not YAML: could not determine a constructor"),
        ("a: \0\n", "job.yaml: not YAML: unacceptable character #x0000: special characters are not allowed"),
        ("{a: 1}: 2\n", "job.yaml:1:1: a key must be a word."),
        ("a: &a {b: *a}\n", "nested too deeply."),
    ],
    ids=["empty", "comment", "two", "list", "twice", "open", "tag", "zero", "key", "endless"],
)
def test_a_file_that_is_no_job_is_told_as_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    (line,) = said(tmp_path, text)
    assert told in line


def test_an_empty_document_behind_the_job_is_nothing(tmp_path: Path) -> None:
    assert said(tmp_path, "---\n" + GOOD + "---\n") == []


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert [problem.message for problem in problems_of(tmp_path / "none.yaml")] == ["no such file."]
    assert [problem.message[:19] for problem in problems_of(tmp_path)] == ["this is a directory"]
    assert "cannot be read: File name too long" in problems_of(tmp_path / ("x" * 300))[0].message
    assert "cannot be read: Not a directory" in problems_of(written(tmp_path, GOOD) / "job.yaml")[0].message
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert problems_of(binary)[0].message.startswith("not a text file in UTF-8")


def test_the_job_for_spot_machines_learns_as_the_one_that_it_is_named_after() -> None:
    spot, addition = (load_job(ROOT / "examples" / f"{name}.yaml").spec for name in ("spot", "addition-cpu"))
    assert changes(result_facts(addition), spot) == []


def test_a_date_is_a_text_and_a_null_is_an_absent_field(tmp_path: Path) -> None:
    text = GOOD.replace(
        '{source: "builtin:addition"}', '{source: "builtin:addition", revision: 2026-01-01}', 1
    )
    job = load_job(written(tmp_path, text + "  trainer:\n"))
    assert (job.spec.model.revision, job.spec.trainer.num_nodes) == ("2026-01-01", 1)


def test_local_paths_must_exist_and_start_at_the_file(tmp_path: Path) -> None:
    text = GOOD.replace('model: {source: "builtin:addition"}', "model: {source: ./model}")
    text = text.replace('train: {source: "builtin:addition"}', "train: {source: data.jsonl}")
    missing = problems_of(written(tmp_path, text))
    assert [problem.path for problem in missing] == ["spec.model.source", "spec.data.train.source"]
    assert str(tmp_path / "data.jsonl") in missing[1].message
    a_model(tmp_path / "model", '{"model_type": "qwen3"}')
    (tmp_path / "data.jsonl").touch()
    assert problems_of(written(tmp_path, text)) == []


def a_model(directory: Path, config: str | None) -> None:
    """A directory with that configuration, if any."""
    directory.mkdir()
    if config is not None:
        (directory / "config.json").write_text(config)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "has no config.json"),
        ("{", "has a config.json that is not JSON"),
        ("{}", "has a config.json that names no model_type"),
        ("[]", "has a config.json that names no model_type"),
    ],
)
def test_a_directory_that_holds_no_model_is_told_before_anything_starts(
    tmp_path: Path, config: str | None, why: str
) -> None:
    """By the file, and by the pod that would read it."""
    place = tmp_path / "model"
    a_model(place, config)
    text = GOOD.replace('model: {source: "builtin:addition"}', "model: {source: ./model}")
    (problem,) = problems_of(written(tmp_path, text))
    assert (problem.path, problem.message.split(". ")[0]) == ("spec.model.source", f"{place} {why}")
    with pytest.raises(Mistake, match=f"^spec.model.source: '{place}' {why}. Give the directory of"):
        checked_directory(str(place))


def no_access(*_: object) -> bool:
    return False


def no_stat(*_: object, **__: object) -> NoReturn:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("what", "name", "mock"), [(os, "access", no_access), (Path, "stat", no_stat)], ids=["file", "folder"]
)
def test_a_path_that_may_not_be_read_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: object, name: str, mock: Callable[..., object]
) -> None:
    """As the system answers whoever is not root."""
    text = GOOD.replace('train: {source: "builtin:addition"}', "train: {source: data.jsonl}")
    (tmp_path / "data.jsonl").touch()
    file = written(tmp_path, text)
    with monkeypatch.context() as patch:
        patch.setattr(what, name, mock)
        problems = problems_of(file)
    assert [problem.path for problem in problems] == ["spec.data.train.source"]
    assert problems[0].message == f"{tmp_path / 'data.jsonl'} may not be read; change its permissions."


@pytest.mark.parametrize("source", ["~who-is-not-there/model", "./" + "x" * 300])
def test_a_path_that_cannot_be_is_missing_like_any_other(tmp_path: Path, source: str) -> None:
    text = GOOD.replace('model: {source: "builtin:addition"}', f'model: {{source: "{source}"}}')
    (line,) = said(tmp_path, text)
    assert "spec.model.source: no directory" in line


def test_the_error_carries_every_problem(tmp_path: Path) -> None:
    with pytest.raises(InvalidJob) as invalid:
        load_job(written(tmp_path, GOOD.replace("adds", "Adds")))
    (problem,) = invalid.value.problems
    assert problem == Problem(str(tmp_path / "job.yaml"), 3, 18, "metadata.name", problem.message)


def test_the_command_tells_good_and_bad_files_apart(tmp_path: Path) -> None:
    good = str(written(tmp_path, GOOD))
    text = CliRunner().invoke(command_line(["validate"]), ["validate", good, "nowhere.yaml"])
    assert (text.exit_code, text.stdout) == (1, f"{good}: ok\nnowhere.yaml: no such file.\n")
    structured = CliRunner().invoke(command_line(["validate"]), ["validate", good, "--output", "json"])
    assert structured.exit_code == 0
    assert json.loads(structured.stdout) == [{"file": good, "ok": True, "problems": []}]
