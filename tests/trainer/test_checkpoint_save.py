"""Saving with real processes: killed at every point, out of space, in the background, with a rank in trouble."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from functools import partial
from pathlib import Path
from threading import Event

import pytest
import torch.distributed as dist

from rljob_trainer.checkpoint.directory import Directory, Storage, open_storage
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.checkpoint.team import SaveError
from rljob_trainer.checkpoint.verify import read_manifest, verify
from trainer.checkpoints import VERSIONS, FileBackend, a_run, a_saver, alone, in_child, layout, save
from trainer.ranks import run_ranks

EFFECTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "open"}


def kill_before(effect: int, root: Path) -> None:
    """SIGKILL this process just before it changes something below `root` for the `effect`-th time."""
    left = effect

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in EFFECTS or not str(arguments[0]).startswith(str(root)):
            return
        writes = event != "open" or bool(int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR))
        left -= writes
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def next_attempt(root: Path, attempt: int, kill_at: int) -> None:
    """Open, resume, save the step after, prune: killed on the way."""
    alone()
    kill_before(kill_at, root)
    run = a_run(root, attempt, checkpoint={"keepLatest": 2})
    storage = open_storage(run)
    step = plan_resume(storage, run, layout(), VERSIONS).step + 1
    a_saver(run, FileBackend(), storage).save(LoopState(step=step), rng=0)


def kill_everywhere(root: Path) -> tuple[int, list[str]]:
    """Attempt after attempt, each killed one effect later, until one gets through; and the damage ever seen."""
    first = in_child(lambda: next_attempt(root, 1, 0))
    assert first == 0
    damage: list[str] = []
    for attempt in range(2, 200):
        newest = whole_steps(root)[-1]
        code = in_child(partial(next_attempt, root, attempt, attempt - 1))
        steps = Directory(root).steps()
        damage += [p for step in steps for p in verify(Directory(root).checkpoint(step))]
        assert whole_steps(root), "there is always one to go on from"
        assert whole_steps(root)[-1] >= newest, "and never an older one than before"
        if code == 0:
            return attempt, damage
        assert code == -signal.SIGKILL
    raise AssertionError("no attempt got through")


def whole_steps(root: Path) -> list[int]:
    directory = Directory(root)
    return [step for step in directory.steps() if not verify(directory.checkpoint(step))]


def test_killed_at_every_point_the_last_good_one_is_always_found(tmp_path: Path) -> None:
    attempts, damage = kill_everywhere(tmp_path)
    assert damage == []
    assert attempts > 20, "so many effects were cut short"


def test_without_the_draft_name_a_kill_poisons_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control."""
    monkeypatch.setattr(Storage, "draft", Storage.checkpoint)
    monkeypatch.setattr(Storage, "publish", lambda *_: None)
    _, damage = kill_everywhere(tmp_path)
    assert damage


def test_a_full_disk_is_a_sentence_and_leaves_the_one_before(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    save(run, 1)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            save(run, 2, content=b"x" * 100_000)
        except Exception as error:
            (tmp_path / "error").write_text(f"{type(error).__name__}: {error}")

    assert in_child(fill) == 0
    told = (tmp_path / "error").read_text()
    assert told.startswith(f"StorageError: Saving a checkpoint failed: the volume at {tmp_path} is full")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_1"]


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    alone()
    may_write = Event()
    saver = a_saver(a_run(tmp_path), FileBackend(before=lambda: may_write.wait(60)))
    saver.begin(LoopState(step=1), rng="then")
    assert saver.poll() is None
    assert Directory(tmp_path).steps() == []
    may_write.set()
    saved = saver.finish()
    assert saved is not None
    assert verify(saved.path) == []
    assert (saver.latest, saver.poll(), saver.finish()) == (saved, None, None)


def test_a_second_save_waits_for_the_first(tmp_path: Path) -> None:
    alone()
    saver = a_saver(a_run(tmp_path), FileBackend())
    saver.begin(LoopState(step=1), rng=0)
    saver.begin(LoopState(step=2), rng=0)
    third = saver.save(LoopState(step=3), rng=0)
    assert saver.latest is third
    assert whole_steps(tmp_path) == [1, 2, 3]


def two_ranks_save(root: Path, background: bool, failing: int | None) -> str | list[str]:
    def fail() -> None:
        if dist.get_rank() == failing:
            raise ValueError("no luck")

    run = a_run(root, trainer={"numProcPerNode": 2})
    if dist.get_rank() == 0:
        open_storage(run)
    dist.barrier()
    saver = a_saver(run, FileBackend(before=fail), Storage.of(run))
    try:
        if background:
            saver.begin(LoopState(step=1), rng=0)
            saver.finish()
        else:
            saver.save(LoopState(step=1), rng=0)
    except SaveError as error:
        return str(error)
    return [file.path for file in read_manifest(Storage.of(run).checkpoint(1)).files]


@pytest.mark.parametrize("background", [False, True])
def test_all_ranks_write_and_one_manifest_names_all_files(tmp_path: Path, background: bool) -> None:
    names = ["loop.json", "spec.json", "state/rank_0.bin", "state/rank_1.bin"]
    assert run_ranks(2, two_ranks_save, tmp_path, background, None) == [names, names]
    assert whole_steps(tmp_path) == [1]


@pytest.mark.parametrize(
    ("error", "raised", "traced"),
    [(ValueError("no luck"), SaveError, True), (OSError(errno.ENOSPC, "full"), StorageError, False)],
)
def test_the_log_has_the_lines_of_an_error_that_nobody_foresaw(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, raised: type[Exception], traced: bool
) -> None:
    def unlucky() -> None:
        raise error

    alone()
    with pytest.raises(raised):
        a_saver(a_run(tmp_path), FileBackend(before=unlucky)).save(LoopState(step=1), rng=0)
    assert ("in unlucky" in caplog.text) == traced


@pytest.mark.parametrize("background", [False, True])
def test_a_rank_in_trouble_fails_all_alike(tmp_path: Path, background: bool) -> None:
    told = run_ranks(2, two_ranks_save, tmp_path, background, 1)
    assert told == ["rank 1: ValueError: no luck"] * 2
    assert list((tmp_path / "checkpoints").iterdir()) == []
