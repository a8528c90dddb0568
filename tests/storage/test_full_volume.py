"""A volume of a few megabytes becomes full at any moment of a save: a sentence, and the checkpoint before is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist

from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.checkpoint.verify import verify
from storage.saving import SavingJob, StateBackend, assert_loads, resumed
from storage.volumes import Volume
from trainer.checkpoints import a_run, a_saver
from trainer.ranks import run_ranks

PAGE = 4096
Fill = Callable[[Path, Volume, int], object]


def with_bytes(ballast: Path, volume: Volume, room: int) -> None:
    """Take all but so many pages of it."""
    with (ballast / "bytes").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(volume.free_bytes - room * PAGE, 1))


def with_files(ballast: Path, volume: Volume, room: int) -> None:
    """Take all but so many of the files that it may hold."""
    for number in range(os.statvfs(volume.path).f_favail - room):
        (ballast / str(number)).touch()


def empty(ballast: Path) -> None:
    for file in ballast.iterdir():
        file.unlink()


@pytest.mark.parametrize("fill", [with_bytes, with_files])
def test_full_at_any_moment_a_save_says_so_and_leaves_the_one_before(small: Volume, fill: Fill) -> None:
    job = SavingJob(small.path / "job")
    job.saved(1)
    told = become_full(job, small, fill)
    assert len(told) > 8, "so many moments of the save"
    assert all(
        f"Saving a checkpoint failed: the volume at {job.storage.root} is full" in each for each in told
    )
    plan = resumed(job.storage.root)
    assert plan.step == 2, "once there is room it is saved"
    assert_loads(plan)


def become_full(job: SavingJob, volume: Volume, fill: Fill) -> list[str]:
    """Save with more and more room until it succeeds; what was told each time before."""
    ballast = volume.path / "ballast"
    ballast.mkdir()
    told: list[str] = []
    for room in range(200):
        fill(ballast, volume, room)
        try:
            job.saved(2)
        except StorageError as error:
            told.append(str(error))
            empty(ballast)
            assert [path.name for path in job.storage.checkpoints.iterdir()] == ["step_1"], "no draft is left"
            assert verify(job.storage.checkpoint(1)) == []
        else:
            empty(ballast)
            return told
    raise AssertionError("no room was enough")


def test_an_attempt_that_finds_no_room_says_so_and_the_next_goes_on(small: Volume) -> None:
    root = small.path / "job"
    SavingJob(root).saved(1)
    (small.path / "ballast").mkdir()
    with_files(small.path / "ballast", small, 0)
    with pytest.raises(StorageError, match=r"Opening the job's directory failed: the volume at .* is full"):
        resumed(root, attempt=2)
    empty(small.path / "ballast")
    plan = resumed(root, attempt=3)
    assert plan.step == 1
    assert_loads(plan)


def two_ranks_save(root: Path) -> str:
    run = a_run(root, trainer={"numProcPerNode": 2})
    if dist.get_rank() == 0:
        open_storage(run)
    dist.barrier()
    saver = a_saver(run, StateBackend(), Storage.of(run))
    saver.save(LoopState(step=1), rng=1)
    if dist.get_rank() == 0:
        with (root / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, Volume(root).free_bytes - 20 * PAGE)
    try:
        saver.save(LoopState(step=2), rng=2)
    except StorageError as error:
        return str(error)
    return "saved"


def test_all_ranks_hear_of_it_in_the_same_words(small: Volume) -> None:
    told = run_ranks(2, two_ranks_save, small.path)
    assert told[0] == told[1]
    assert "is full" in told[0]
    assert [path.name for path in (small.path / "checkpoints").iterdir()] == ["step_1"]
