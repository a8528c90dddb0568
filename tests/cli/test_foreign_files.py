"""Commands that are pointed at files of somebody else, or at damaged ones: a sentence, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rljob_cli.__main__ import command_line
from rljob_cli.errors import UserMistake


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A job's directory on a volume, with the least in it."""
    (tmp_path / "attempts").mkdir()
    (tmp_path / "samples").mkdir()
    (tmp_path / "job.json").write_text("{}")
    return tmp_path


def mistake(*words: str) -> str:
    """The sentence that the command ends with."""
    ended = CliRunner().invoke(command_line(list(words)), list(words))
    assert isinstance(ended.exception, UserMistake), ended.output
    return str(ended.exception)


@pytest.mark.parametrize("damage", [b"garbage\n", b"\xff\n", b"{}\n"])
def test_damaged_samples(storage: Path, damage: bytes) -> None:
    file = storage / "samples" / "step_3.jsonl"
    file.write_bytes(damage)
    assert mistake("samples", str(storage)) == (
        f"{file} does not hold samples, or is damaged: show another step"
    )


def test_a_storage_where_nothing_was_ever_set_aside(storage: Path) -> None:
    listed = CliRunner().invoke(command_line(["checkpoint"]), ["checkpoint", "ls", str(storage)])
    assert listed.exit_code == 0, listed.exception


def test_a_storage_without_a_checkpoint_yet(storage: Path) -> None:
    assert mistake("checkpoint", "verify", str(storage)).endswith(
        "/checkpoints yet: one is saved every spec.checkpoint.savePeriod steps, and after the last"
    )


@pytest.mark.parametrize("command", ["ls", "verify"])
@pytest.mark.parametrize("foreign", ["a directory", "a file"])
def test_checkpoints_of_something_else(tmp_path: Path, command: str, foreign: str) -> None:
    place = tmp_path / "strange"
    place.mkdir() if foreign == "a directory" else place.touch()
    assert mistake("checkpoint", command, str(place)).startswith(f"nothing was trained yet in {place}; ")


JOB = """\
apiVersion: rljob.io/v1alpha1
kind: RLJob
metadata: {name: a}
spec:
  model: {source: "builtin:addition"}
  data: {train: {source: "builtin:addition"}}
  reward: {builtin: exactMatch}
"""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff", "not a text file in UTF-8: invalid start byte"),
        (b"{", "Invalid JSON: "),
        (b'{"nix": 1}', "nix: Extra inputs are not permitted"),
        (None, "Is a directory; name a file with the operator's settings"),
    ],
    ids=["binary", "not JSON", "unknown", "directory"],
)
def test_settings_that_cannot_be_read(tmp_path: Path, content: bytes | None, told: str) -> None:
    job, settings = tmp_path / "job.yaml", tmp_path / "settings.json"
    job.write_text(JOB)
    settings.mkdir() if content is None else settings.write_bytes(content)
    assert mistake("render", str(job), "--settings", str(settings)).startswith(f"{settings}: {told}")
