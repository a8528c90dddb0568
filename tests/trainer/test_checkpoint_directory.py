"""Whose a directory is, and who may write to it."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest

from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.durable import StorageError, storage_errors
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.checkpoint.past import FIRST, Note, read_note, read_past
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.checkpoint.verify import verify
from rljob_trainer.errors import Mistake
from trainer.checkpoints import FileBackend, a_run, a_saver, alone, finish, save


def test_a_reused_name_never_resumes_a_stranger(tmp_path: Path) -> None:
    save(a_run(tmp_path, uid="of-the-first"), 1)
    with pytest.raises(Mistake, match=r"belongs to another job: 'demo' with UID of-the-first"):
        open_storage(a_run(tmp_path, 2, uid="of-the-second"))


def test_checkpoints_without_an_owner_are_refused(tmp_path: Path) -> None:
    save(a_run(tmp_path), 1)
    (tmp_path / "job.json").unlink()
    with pytest.raises(Mistake, match=r"nobody knows whose"):
        open_storage(a_run(tmp_path, 2))


def test_an_older_attempt_cannot_open_what_a_newer_one_has(tmp_path: Path) -> None:
    open_storage(a_run(tmp_path, 2))
    with pytest.raises(FencedError, match=r"attempt 2 has taken"):
        open_storage(a_run(tmp_path, 1))
    with pytest.raises(FencedError):
        open_storage(a_run(tmp_path, 2, token="another"))
    assert open_storage(a_run(tmp_path, 2)) == open_storage(a_run(tmp_path, 2))


def test_an_older_attempt_cannot_save_once_a_newer_one_has_the_volume(tmp_path: Path) -> None:
    alone()
    old = a_saver(a_run(tmp_path, 1), FileBackend(b"old"))
    save(a_run(tmp_path, 2), 1, content=b"new")
    with pytest.raises(FencedError):
        old.save(LoopState(step=2), rng=0)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_1"]


def test_a_newer_attempt_that_comes_in_the_middle_of_a_save_fences_it(tmp_path: Path) -> None:
    alone()
    newer = a_run(tmp_path, 2)
    old = a_saver(a_run(tmp_path, 1), FileBackend(before=lambda: open_storage(newer)))
    with pytest.raises(FencedError):
        old.save(LoopState(step=2), rng=0)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_an_older_attempt_removes_nothing_that_a_newer_one_may_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paused between the name of its last checkpoint and the removal of the one before."""
    alone()
    run = a_run(tmp_path, 1, checkpoint={"keepLatest": 1})
    old, publish = a_saver(run, FileBackend()), Storage.publish
    old.save(LoopState(step=1), rng=0)

    def paused(storage: Storage, step: int) -> None:
        publish(storage, step)
        open_storage(a_run(tmp_path, 2))

    monkeypatch.setattr(Storage, "publish", paused)
    with pytest.raises(FencedError):
        old.save(LoopState(step=2), rng=0)
    assert Storage.of(run).steps() == [1, 2]


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_newer_attempt_between_the_last_check_and_the_rename_still_fences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_over: bool
) -> None:
    """The draft is gone by then, so the rename itself fails; without the newcomer the same save succeeds."""
    alone()
    old = a_saver(a_run(tmp_path, 1), FileBackend())
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        if taken_over and path.name.endswith(".tmp-1") and "trash" not in str(target):
            open_storage(a_run(tmp_path, 2))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    if taken_over:
        with pytest.raises(FencedError):
            old.save(LoopState(step=2), rng=0)
    else:
        old.save(LoopState(step=2), rng=0)
    assert (tmp_path / "checkpoints" / "step_2").exists() is not taken_over


def test_without_the_check_the_older_attempt_would_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the fence."""
    alone()
    old = a_saver(a_run(tmp_path, 1), FileBackend(b"old"))
    save(a_run(tmp_path, 2), 1, content=b"new")
    monkeypatch.setattr(Storage, "check_fence", lambda _: None)
    old.save(LoopState(step=2), rng=0)
    assert (tmp_path / "checkpoints" / "step_2" / "state" / "rank_0.bin").read_bytes() == b"old0"


def test_what_older_attempts_left_half_written_is_cleared(tmp_path: Path) -> None:
    storage = open_storage(a_run(tmp_path, 1))
    (storage.draft(7) / "state").mkdir(parents=True)
    open_storage(a_run(tmp_path, 2))
    assert list(storage.checkpoints.iterdir()) == []
    assert list(storage.trash.iterdir()) == []


def test_the_furthest_step_is_known_until_it_is_passed(tmp_path: Path) -> None:
    """However many attempts go on from an older one and die; each says beside it how far it came itself."""
    first = open_storage(a_run(tmp_path, 1))
    assert read_past(first) == FIRST
    for attempt, (step, furthest) in enumerate([(12, 12), (10, 12), (12, 12), (13, 13)], start=1):
        run = a_run(tmp_path, attempt)
        finish(run, step)
        assert read_note(first.attempts / open_storage(run).mine.file) == Note(step, furthest)
        assert read_past(open_storage(a_run(tmp_path, attempt + 1))).furthest == furthest
    open_storage(a_run(tmp_path, 6))
    assert read_past(open_storage(a_run(tmp_path, 7))).furthest == 13, "those between did not begin to train"


def test_a_note_of_an_older_version_has_one_number(tmp_path: Path) -> None:
    storage = open_storage(a_run(tmp_path))
    (storage.attempts / storage.mine.file).write_text("12\n")
    assert read_past(open_storage(a_run(tmp_path, 2))).furthest == 12


@pytest.mark.parametrize("left", ["", "1", "12 1", "\0\0\0"])
def test_a_note_that_a_power_cut_has_torn_hides_no_older_one(tmp_path: Path, left: str) -> None:
    """Else an attempt that had got far would count as one that had not begun."""
    finish(a_run(tmp_path, 1), 4)
    second = open_storage(a_run(tmp_path, 2))
    (second.attempts / second.mine.file).write_text(left)
    past = read_past(open_storage(a_run(tmp_path, 3)))
    assert (past.furthest, past.first, past.lost(4)) == (None, False, None)


def test_a_directory_that_cannot_be_written_is_the_users_to_mend() -> None:
    with pytest.raises(Mistake, match=r"/sys/rljob cannot be written"):
        open_storage(a_run(Path("/sys/rljob")))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageError),
        (errno.EDQUOT, StorageError),
        (errno.EROFS, Mistake),
        (errno.EIO, StorageError),
    ],
)
def test_what_a_volume_refuses_becomes_a_sentence(tmp_path: Path, number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"Saving failed: .*{tmp_path}"), storage_errors(tmp_path, "Saving"):
        raise OSError(number, "no")


def test_a_metric_that_is_nan_does_not_spoil_a_checkpoint(tmp_path: Path) -> None:
    (saved,) = save(a_run(tmp_path), 3, metrics={"kl": math.nan})
    assert verify(saved.path) == []
    assert math.isnan(LoopState.read(saved.path).metrics["kl"])


def test_a_checkpoint_is_whole_when_written(tmp_path: Path) -> None:
    (saved,) = save(a_run(tmp_path), 3)
    assert verify(saved.path) == []
    assert not saved.facts.verified, "it was not read back"
    assert saved.facts.bytes == sum(p.stat().st_size for p in saved.path.rglob("*") if p.is_file()) - sum(
        (saved.path / name).stat().st_size for name in ("manifest.json", "manifest.json.sha256")
    )
