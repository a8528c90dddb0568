"""What a job begins with that goes on from another's checkpoint, and that it is the same after a restart."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rljob_api.run import Run
from rljob_api.status import Exactness
from rljob_trainer.checkpoint.directory import INITIAL_FILE, open_storage
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.plan import judged_again, plan_resume
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.errors import Mistake, Unmet
from trainer.checkpoints import VERSIONS, a_run, finish, layout, save

LOSSLESS: dict[str, Any] = {"resume": {"exactness": "Lossless"}, "checkpoint": {"loadRng": True}}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Where the other job saves; two of its steps are there."""
    train_on(tmp_path / "old", 2, 4)
    return tmp_path / "old"


def train_on(old: Path, *steps: int) -> None:
    save(a_run(old, uid="uid-2").model_copy(update={"name": "warm"}), *steps)


def a_new_run(old: Path, attempt: int = 1, step: int | None = None, **spec: Any) -> Run:
    wanted = {"rljobName": "warm"} | ({} if step is None else {"step": step})
    run = a_run(old.parent / "new", attempt, initialCheckpoint=wanted, **spec)
    return run.model_copy(update={"paths": run.paths.model_copy(update={"initial": str(old)})})


def planned(old: Path, attempt: int = 1, **spec: Any) -> ResumePlan:
    run = a_new_run(old, attempt, **spec)
    storage = open_storage(run)
    plan = plan_resume(storage, run, layout(), VERSIONS)
    assert judged_again(plan, storage, run, layout(), VERSIONS) == plan, "servers are as they were"
    return plan


def remove(old: Path, step: int) -> None:
    shutil.rmtree(old / "checkpoints" / f"step_{step}")


def damage(old: Path, step: int) -> None:
    (old / "checkpoints" / f"step_{step}" / "loop.json").write_text("{")


def test_a_later_attempt_begins_with_the_same_though_the_other_job_trains_on(old: Path) -> None:
    assert planned(old).step == 4
    finish(a_new_run(old), 5, 6)
    train_on(old, 6, 8)
    again = planned(old, 2)
    assert (again.step, again.lost_steps, again.skipped) == (4, 2, ())


def test_one_that_has_gone_meanwhile_is_told_and_no_finished_step_is_claimed_to_be_kept(old: Path) -> None:
    planned(old)
    finish(a_new_run(old), 5, 6)
    train_on(old, 8)
    remove(old, 4)
    with pytest.raises(
        Unmet, match=r"Lossless, but the resume from step 8 would be BestEffort: it is not known"
    ):
        planned(old, 2, **LOSSLESS)
    again = planned(old, 3)
    assert (again.step, again.lost_steps, again.exactness) == (8, None, Exactness.BEST_EFFORT)
    assert (
        f"step 4 in {old / 'checkpoints'}, which this job has begun with, is not there any"
        in again.skipped[0]
    )
    third = planned(old, 4)
    assert (third.step, third.lost_steps, third.exactness) == (8, None, Exactness.BEST_EFFORT)
    assert third.skipped == (), "it was told"
    finish(a_new_run(old, 4), 9)
    assert planned(old, 5).lost_steps == 1, "and these are known again"


def test_what_an_attempt_was_refused_may_be_put_back(old: Path, tmp_path: Path) -> None:
    planned(old)
    finish(a_new_run(old), 5)
    (old / "checkpoints" / "step_4").rename(tmp_path / "step_4")
    with pytest.raises(Unmet):
        planned(old, 2, **LOSSLESS)
    (tmp_path / "step_4").rename(old / "checkpoints" / "step_4")
    again = planned(old, 3, **LOSSLESS)
    assert (again.step, again.lost_steps) == (4, 1)


def test_where_no_step_was_finished_from_it_nothing_is_lost(old: Path) -> None:
    planned(old)
    remove(old, 4)
    again = planned(old, 2)
    assert (again.step, again.lost_steps, again.exactness) == (2, 0, Exactness.LOSSLESS)
    assert len(again.skipped) == 1


@pytest.mark.parametrize("first", [True, False], ids=["another step", "from none to one"])
def test_an_edit_that_begins_elsewhere_does_not_take_over_what_was_finished(old: Path, first: bool) -> None:
    planned(old, step=2) if first else finish(a_run(old.parent / "new"), 1)
    finish(a_new_run(old), 3)
    again = planned(old, 2, step=4)
    assert (again.step, again.lost_steps, again.exactness) == (4, None, Exactness.BEST_EFFORT)


def test_nor_does_one_that_begins_with_the_model(old: Path) -> None:
    planned(old)
    finish(a_new_run(old), 5)
    run = a_run(old.parent / "new", 2)
    again = plan_resume(open_storage(run), run, layout(), VERSIONS)
    assert (again.step, again.lost_steps, again.exactness) == (0, None, Exactness.BEST_EFFORT)
    assert not (old.parent / "new" / INITIAL_FILE).exists()


def test_the_next_job_of_that_name_chooses_anew(old: Path) -> None:
    """It takes the place of one that finished no step."""
    planned(old)
    train_on(old, 6)
    run = a_new_run(old).model_copy(update={"uid": "uid-3"})
    assert plan_resume(open_storage(run), run, layout(), VERSIONS).step == 6


@pytest.mark.parametrize("left", ["", "{}", "\0"])
def test_a_note_that_was_damaged_is_none(old: Path, left: str, caplog: pytest.LogCaptureFixture) -> None:
    planned(old)
    finish(a_new_run(old), 5)
    (old.parent / "new" / INITIAL_FILE).write_text(left)
    assert planned(old, 2).exactness is Exactness.BEST_EFFORT
    assert "initial.json is damaged" in caplog.text


def test_a_damaged_one_is_passed_over_and_left_where_it_is(old: Path) -> None:
    damage(old, 4)
    plan = planned(old)
    newest = old / "checkpoints" / "step_4"
    problem = "loop.json has 1 bytes"
    assert plan.step == 2
    assert plan.skipped[0].startswith(f"spec.initialCheckpoint: {newest} was passed over: {problem}")
    assert plan.skipped[0].endswith("It was left where it is.")
    assert newest.is_dir()
    assert list((old / "quarantine").iterdir()) == []


def test_one_that_was_damaged_since_is_as_good_as_gone(old: Path) -> None:
    planned(old)
    finish(a_new_run(old), 5)
    damage(old, 4)
    again = planned(old, 2)
    assert (again.step, again.lost_steps, len(again.skipped)) == (2, None, 2)


def test_one_at_which_the_job_would_be_over_is_a_mistake(old: Path) -> None:
    with pytest.raises(Mistake, match=r"is of step 4, .* is 4: .* Set maxSteps above 4"):
        planned(old, algorithm={"grpo": {"maxSteps": 4}})
    assert planned(old, algorithm={"grpo": {"maxSteps": 5}}).step == 4


def test_where_none_is_whole_it_is_a_mistake(old: Path) -> None:
    damage(old, 2)
    damage(old, 4)
    with pytest.raises(
        Mistake, match=r"no checkpoint in .*/checkpoints is whole; of the newest, loop.json has"
    ):
        planned(old)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Files of checkpoints whose path has that in it cannot be read from now on."""
    digest = hashlib.file_digest

    def fails(part: str) -> None:
        def read(file: Any, kind: str) -> Any:
            if part in str(file.name):
                raise OSError(errno.EIO, "no")
            return digest(file, kind)

        monkeypatch.setattr(hashlib, "file_digest", read)

    return fails


@pytest.mark.parametrize("step", [None, 4], ids=["any", "a named one"])
def test_a_volume_that_cannot_be_read_for_a_while_does_not_fail_the_job(
    old: Path, unreadable: Callable[[str], None], step: int | None
) -> None:
    """A `StorageError` is not counted, and tried again."""
    unreadable("/step_")
    with pytest.raises(StorageError, match=r"step_4 may be whole, but .* cannot be read: Input/output error"):
        planned(old, step=step)


def test_nor_does_it_begin_elsewhere_than_before(old: Path, unreadable: Callable[[str], None]) -> None:
    planned(old)
    unreadable("/step_4/")
    with pytest.raises(StorageError, match="step_4 may be whole"):
        planned(old, 2)


def test_at_first_an_older_one_that_is_whole_is_taken_as_a_resume_does(
    old: Path, unreadable: Callable[[str], None]
) -> None:
    unreadable("/step_4/")
    plan = planned(old)
    assert plan.step == 2
    assert "cannot be read: Input/output error" in plan.skipped[0]
