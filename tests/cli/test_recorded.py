"""Whether a step can be done again from what the volume holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.test_difference import a_sample
from rljob_api.samples import drawn, step_file
from rljob_cli.errors import UserMistake
from rljob_cli.recorded import refuse_what_cannot_be_fed
from rljob_trainer.checkpoint.directory import Directory


def storage(folder: Path, kept: range, tokens: bytes = b"") -> Directory:
    """With a sample of each of these steps."""
    directory = Directory(folder)
    directory.samples.mkdir()
    for step in kept:
        line = a_sample(step=step, drawn=tokens).model_dump_json(by_alias=True)
        (directory.samples / step_file(step)).write_text(f"{line}\n")
    return directory


def test_samples_of_every_step_since_the_checkpoint_can_be_fed(tmp_path: Path) -> None:
    there = storage(tmp_path, range(3, 9), drawn([5, 6], [-0.5, -0.25]))
    refuse_what_cannot_be_fed(there, range(3, 6))
    with pytest.raises(UserMistake, match=r"steps 2 to 5, and those of step 2 are not in .* --draw$"):
        refuse_what_cannot_be_fed(there, range(2, 6))


def test_samples_of_an_older_version_can_only_be_drawn_anew(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match=r"step 4 were written by an older version.* --draw$"):
        refuse_what_cannot_be_fed(storage(tmp_path, range(3, 9)), range(4, 6))


def test_a_job_without_samples_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="those of step 1 are not in"):
        refuse_what_cannot_be_fed(Directory(tmp_path), range(1, 2))
