"""Whether a step can be done again from what the volume holds, and as it was."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from builders import a_job
from cli.test_difference import a_sample
from rljob_api.samples import drawn, step_file
from rljob_cli.errors import UserMistake
from rljob_cli.recorded import (
    doubts_of_the_first_steps,
    recorded,
    refuse_what_cannot_be_fed,
    refuse_what_never_ran,
    that_ran,
)
from rljob_trainer.checkpoint.basis import Basis, write_basis
from rljob_trainer.checkpoint.directory import Directory
from rljob_trainer.event_file import EventFile
from trainer.checkpoints import VERSIONS, a_run, layout


def with_samples(folder: Path, kept: range, tokens: bytes = b"") -> Directory:
    """With a sample of each of these steps."""
    directory = Directory(folder)
    directory.samples.mkdir(parents=True, exist_ok=True)
    for step in kept:
        line = a_sample(step=step, drawn=tokens).model_dump_json(by_alias=True)
        (directory.samples / step_file(step)).write_text(f"{line}\n")
    return directory


def test_samples_of_every_step_since_the_checkpoint_can_be_fed(tmp_path: Path) -> None:
    there = with_samples(tmp_path, range(3, 9), drawn([5, 6], [-0.5, -0.25]))
    refuse_what_cannot_be_fed(there, range(3, 6))
    with pytest.raises(UserMistake, match=r"steps 2 to 5, and those of step 2 are not in .* --draw$"):
        refuse_what_cannot_be_fed(there, range(2, 6))


def test_a_step_that_never_ran_is_refused_with_how_far_the_job_came(tmp_path: Path) -> None:
    there = with_samples(tmp_path, range(3, 9))
    refuse_what_never_ran(there, 8)
    with pytest.raises(UserMistake, match=r"^step 9 was never done: the job has come to step 8$"):
        refuse_what_never_ran(there, 9)


def test_samples_of_an_older_version_can_only_be_drawn_anew(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match=r"step 4 were written by an older version.* --draw$"):
        refuse_what_cannot_be_fed(with_samples(tmp_path, range(3, 9)), range(4, 6))


def test_what_the_first_steps_depended_on_is_compared_with_what_there_is_now(tmp_path: Path) -> None:
    there, again = Directory(tmp_path / "there"), Directory(tmp_path / "again")
    newer = VERSIONS.model_copy(update={"torch": "2.14.0"})
    for directory, versions in ((there, VERSIONS), (again, newer)):
        directory.root.mkdir()
        write_basis(directory.root, Basis.of(a_job().spec, layout(), versions))
    assert doubts_of_the_first_steps(there, there, []) == ""
    told = doubts_of_the_first_steps(there, again, ["so it always is"])
    assert told == "torch was 2.13.0 and is 2.14.0; so it always is."
    assert "not known" in doubts_of_the_first_steps(Directory(tmp_path), again, [])


def test_steps_are_done_again_by_what_did_them_and_not_by_an_edit_that_was_refused(tmp_path: Path) -> None:
    did, refused = a_run(tmp_path), a_run(tmp_path, trainer={"numProcPerNode": 2})
    write_basis(tmp_path, Basis.of(did.spec, layout(), VERSIONS))
    there = Directory(tmp_path)
    assert that_ran(there, iter([refused, did])) is did
    assert that_ran(there, iter([refused])) is refused, "what else there is to go by"
    unread = iter([did, refused])
    assert that_ran(there, unread) is did
    assert list(unread) == [refused]


def test_a_job_without_samples_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="those of step 1 are not in"):
        refuse_what_cannot_be_fed(Directory(tmp_path), range(1, 2))


def test_of_steps_that_were_done_again_the_later_numbers_are_read_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = with_samples(tmp_path, range(1, 6))
    there.tensorboard.mkdir()
    for attempt, steps in enumerate((range(1, 5), range(3, 6)), start=1):
        curves = EventFile(there.tensorboard, steps[0], clock=partial(float, attempt))
        for step in steps:
            curves.add(step, {"reward": attempt})
        curves.flush()
    assert recorded(there, range(1, 6))[1] == {"reward": {1: 1, 2: 1, 3: 2, 4: 2, 5: 2}}
    assert caplog.messages == []
