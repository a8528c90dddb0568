"""Whose a directory is, and who may write to it."""

from __future__ import annotations

import errno
import itertools
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from rljob_operator import names
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.durable import StorageError, storage_errors, write_durably
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


@pytest.mark.parametrize(
    ("storage", "way_on", "gone"),
    [
        ({}, "{rljobName: demo, step: 2}", f"the claim (kubectl delete pvc {names.claim('demo')})"),
        ({"claimName": "mine"}, "{rljobName: demo, step: 2, claimName: mine}", "that directory"),
    ],
)
def test_a_job_that_meets_checkpoints_of_a_namesake_is_told_both_ways_on(
    tmp_path: Path, storage: dict[str, str], way_on: str, gone: str
) -> None:
    """Other jobs may share a claim that was named."""
    save(a_run(tmp_path, uid="of-the-first"), 1, 2)
    with pytest.raises(Mistake) as told:
        open_storage(a_run(tmp_path, uid="of-the-second", checkpoint={"storage": storage}))
    assert f"create it under another name with initialCheckpoint: {way_on}. " in str(told.value)
    assert f"delete this job, then {gone}, and create it again" in str(told.value)


def test_the_directory_of_a_namesake_that_finished_no_step_is_taken_over(tmp_path: Path) -> None:
    """One that had a mistake in its file, say, and was created again without it."""
    before = open_storage(a_run(tmp_path, 7, uid="of-the-first"))
    finish(a_run(tmp_path, 7, uid="of-the-first"))
    before.draft(1).mkdir()
    before.rollouts.mkdir()
    storage = open_storage(a_run(tmp_path, 1, uid="of-the-second"))
    assert (storage.owner.uid, read_past(storage)) == ("of-the-second", FIRST)
    assert list(storage.checkpoints.iterdir()) == list(storage.trash.iterdir()) == []
    assert not storage.rollouts.exists()
    with pytest.raises(FencedError):
        before.check_fence()


@pytest.mark.parametrize(
    "left", ["checkpoints/step_1", "quarantine/step_1.7", "samples/step_1.jsonl", "export/a"]
)
def test_what_a_namesake_left_of_its_steps_is_never_taken_over(tmp_path: Path, left: str) -> None:
    open_storage(a_run(tmp_path, uid="of-the-first"))
    (tmp_path / left).mkdir(parents=True)
    with pytest.raises(Mistake, match="belongs to another job"):
        open_storage(a_run(tmp_path, uid="of-the-second"))
    assert (tmp_path / left).exists()


def test_a_take_over_that_is_cut_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of its effects, the next attempt, whatever its number, has the directory for itself."""
    for effects in itertools.count():
        root = tmp_path / str(effects)
        before = open_storage(a_run(root, 7, uid="of-the-first"))
        before.draft(1).mkdir()
        with monkeypatch.context() as patch:
            left = cut_off_after(effects, patch)
            with suppress(PowerCutError):
                open_storage(a_run(root, 1, uid="of-the-second"))
        storage = open_storage(a_run(root, 2, uid="of-the-second"))
        assert (storage.owner.uid, list(storage.checkpoints.iterdir())) == ("of-the-second", [])
        if left:
            break
    assert effects > 3


class PowerCutError(Exception):
    pass


def cut_off_after(effects: int, patch: pytest.MonkeyPatch) -> list[int]:
    """The process ends before it renames once more, or makes a folder; the numbers that are left over."""
    left = list(range(effects))
    for name in ("rename", "replace", "mkdir"):
        patch.setattr(Path, name, counted(getattr(Path, name), left))
    return left


def counted(effect: Callable[..., object], left: list[int]) -> Callable[..., object]:
    def act(*arguments: object, **options: object) -> object:
        if not left:
            raise PowerCutError
        left.pop()
        return effect(*arguments, **options)

    return act


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_namesake_that_saves_after_it_was_taken_over_neither_publishes_nor_disturbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_over: bool
) -> None:
    """It had passed its last check; both are in their first attempt, and save the same step."""
    alone()
    old = a_saver(a_run(tmp_path, 1, uid="of-the-first", token="old"), FileBackend(b"old"))
    newer = a_run(tmp_path, 1, uid="of-the-second", token="new")
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        if taken_over and path.name.endswith("-old") and target.name == "step_2":
            open_storage(newer).draft(2).mkdir()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    if not taken_over:
        assert old.save(LoopState(step=2), rng=0).manifest.job_uid == "of-the-first"
        return
    with pytest.raises(FencedError):
        old.save(LoopState(step=2), rng=0)
    assert list((tmp_path / "checkpoints").iterdir()) == [Storage.of(newer).draft(2)]


def test_checkpoints_without_an_owner_are_refused(tmp_path: Path) -> None:
    save(a_run(tmp_path), 1)
    (tmp_path / "job.json").unlink()
    with pytest.raises(Mistake, match=r"nobody knows whose"):
        open_storage(a_run(tmp_path, 2))


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff"])
def test_a_directory_with_a_damaged_owner_is_refused_and_kept(tmp_path: Path, damage: bytes) -> None:
    save(a_run(tmp_path), 1)
    (tmp_path / "job.json").write_bytes(damage)
    with pytest.raises(Mistake, match=r"job\.json is damaged, .* write this into it: {"):
        open_storage(a_run(tmp_path, 2))
    assert (tmp_path / "checkpoints" / "step_1").is_dir()


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
        if taken_over and ".tmp-000001-" in path.name and "trash" not in str(target):
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


def test_of_two_that_write_a_file_at_once_neither_takes_the_others_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pods do that share a volume, whose process ids are the same."""
    path, fsync = tmp_path / "note", os.fsync

    def behind_another(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        write_durably(path, "the other's")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", behind_another)
    write_durably(path, "own")
    assert path.read_text() == "own"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_volume_did_not_take_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be tried again and again until there is room."""
    (tmp_path / "note").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no"):
        write_durably(tmp_path / "note", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


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
