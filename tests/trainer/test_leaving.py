"""Told to go: the last finished step is kept, whenever that is."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rljob_api.run import Run
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.loop import Loop
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.train import leave
from trainer.checkpoints import VERSIONS, FileBackend, a_run, a_saver, layout, save


def resumed(tmp_path: Path, before: Callable[[], None] = lambda: None) -> tuple[Run, Loop]:
    """A second attempt that went on from step 2 and has done no step of its own."""
    save(a_run(tmp_path), 2)
    run = a_run(tmp_path, attempt=2)
    storage = open_storage(run)
    plan = plan_resume(storage, run, layout(), VERSIONS)
    board = ProgressBoard(run)
    board.resume(plan)
    nothing: Any = None  # leaving asks for none of it
    saver = a_saver(run, FileBackend(before=before), storage)
    return run, Loop(run.spec, nothing, nothing, nothing, nothing, saver, board, None, plan.loop, 2)


def test_who_resumed_and_did_no_step_yet_leaves_the_checkpoint_that_is_there(tmp_path: Path) -> None:
    run, loop = resumed(tmp_path)
    assert leave(run, loop) == "told to go; step 2 is saved"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_2"]


def test_who_did_a_step_saves_it(tmp_path: Path) -> None:
    run, loop = resumed(tmp_path)
    loop.state = loop.state.model_copy(update={"step": 3})
    assert leave(run, loop) == "told to go; step 3 is saved"
    assert (tmp_path / "checkpoints" / "step_3").is_dir()


def full(times: int) -> Callable[[], None]:
    """A volume that takes nothing so many times."""
    left = iter(range(times))

    def write() -> None:
        if next(left, None) is not None:
            raise OSError(errno.ENOSPC, "full")

    return write


def test_a_save_in_the_background_that_failed_does_not_keep_the_last_step_from_being_saved(
    tmp_path: Path,
) -> None:
    run, loop = resumed(tmp_path, full(1))
    assert loop.saver is not None
    loop.state = loop.state.model_copy(update={"step": 3})
    loop.saver.begin(loop.state, loop.rng)
    assert leave(run, loop) == "told to go; step 3 is saved"
    assert (tmp_path / "checkpoints" / "step_3").is_dir()


def test_a_volume_that_stays_full_is_told_when_the_job_is_told_to_go(tmp_path: Path) -> None:
    run, loop = resumed(tmp_path, full(9))
    loop.state = loop.state.model_copy(update={"step": 3})
    with pytest.raises(StorageError, match="is full"):
        leave(run, loop)
