"""A volume of a few megabytes becomes full at any moment of a save: a sentence, and the checkpoint before is whole."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.checkpoint.past import read_past
from rljob_trainer.checkpoint.scrub import Scrub
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.checkpoint.verify import verify
from rljob_trainer.leader import Leader
from rljob_trainer.loop import Loop
from rljob_trainer.metrics import MetricsLog
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.train import leave
from storage.saving import SavingJob, StateBackend, assert_loads, resumed
from storage.volumes import Volume
from trainer.checkpoints import a_run, a_saver
from trainer.ranks import run_ranks
from trainer.tiny import make_batch

PAGE = 4096
BALLAST = "ballast"
Fill = Callable[[Path, Volume, int], object]


def with_bytes(ballast: Path, volume: Volume, room: int) -> None:
    """Take all but so many pages of it."""
    with (ballast / BALLAST).open("wb") as file:  # what it took before is free again
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


def reading_for_ever(job: SavingJob, step: int) -> None:
    """Its thread hangs in the checkpoint of that step, whose successor is whole."""
    scrub = Scrub(job.storage, lambda _: None)
    scrub._reading = step
    job.saver._scrub = scrub


@pytest.mark.parametrize("seen", [True, False], ids=["a small disk", "a quota"])
def test_one_that_is_read_back_makes_way_where_there_is_no_room_for_the_next(
    small: Volume, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    """Where the volume does not tell how little room there is, a save fails before."""
    monkeypatch.setattr(Scrub, "wake", lambda _: None)
    if not seen:
        monkeypatch.setattr("rljob_trainer.checkpoint.save.fits_another", lambda _: True)
    job, ballast = SavingJob(small.path / "job", keep=1), small.path / "ballast"
    ballast.mkdir()
    job.saved(1)
    reading_for_ever(job, 1)
    job.saved(2)
    assert job.storage.steps() == [1, 2]
    with_bytes(ballast, small, 30)
    if not seen:
        with pytest.raises(StorageError, match="is full"):
            job.saved(3)
    assert job.saved(3) == 3
    assert job.storage.steps() == [3]


def test_a_job_that_shall_keep_fewer_finds_room_by_that(small: Volume) -> None:
    """As the message of a full volume has it."""
    root, ballast = small.path / "job", small.path / "ballast"
    ballast.mkdir()
    job = SavingJob(root, keep=3)
    for step in (1, 2, 3):
        job.saved(step)
    with_bytes(ballast, small, 30)
    fewer = SavingJob(root, attempt=2, keep=1)
    assert fewer.saved(4) == 4
    assert fewer.storage.steps() == [4]


class TrainingJob(SavingJob):
    """One that saves every other step, in the background or not, and writes samples and notes at each."""

    def __init__(self, root: Path, *, background: bool) -> None:
        nothing: Any = None  # a step that is done asks for none of it
        checkpoint = {"savePeriod": 2, "asyncSave": background}
        super().__init__(root, checkpoint=checkpoint, logging={"tensorboard": False})
        self.board, spec = ProgressBoard(self.run), self.run.spec
        log = MetricsLog(self.run, self.storage.tensorboard, 0)
        leader = Leader(spec, nothing, nothing, nothing, self.storage, log, self.board, nothing, self.notes)
        backend: Any = SimpleNamespace(rng_state=lambda: self.board.progress().step + 1)
        ranks = (nothing, backend, nothing, nothing)
        self.loop = Loop(spec, *ranks, self.saver, self.board, leader, LoopState(), 0)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.loop.finish(make_batch(), {"reward": 0.5, "loss": -0.25}, 1.0)
            self.loop.save()
            while (running := self.saver._running) is not None:
                wait([running])
                self.loop.poll_save()

    @property
    def told(self) -> str:
        return self.board.progress().save_failure


@pytest.mark.parametrize("background", [False, True])
def test_a_volume_that_fills_while_a_job_trains_costs_no_step(
    small: Volume, background: bool, caplog: pytest.LogCaptureFixture
) -> None:
    job, ballast = TrainingJob(small.path / "job", background=background), small.path / "ballast"
    ballast.mkdir()
    caplog.set_level(logging.INFO)
    job.train(3)
    assert (job.told, job.storage.steps()) == ("", [2])
    steps = job.run.spec.algorithm.grpo.max_steps
    assert caplog.messages[-1] == f"step 3/{steps}: reward 0.5, loss -0.25, 1.0 s"
    with_bytes(ballast, small, 0)
    job.train(4)
    assert "Saving a checkpoint failed: the volume at" in job.told
    assert "is full" in job.told
    assert "Training goes on" in job.told
    assert (job.loop.state.step, job.storage.steps()) == (7, [2])
    assert read_past(Storage.of(a_run(job.storage.root, 2))).furthest == 7, "a note takes no new room"
    with pytest.raises(StorageError, match=r"Saving a checkpoint failed: the volume at .* is full"):
        leave(job.run, job.loop)
    empty(ballast)
    job.train(3)
    assert leave(job.run, job.loop) == "told to go; step 10 is saved"
    assert (job.told, job.storage.steps()) == ("", [2, 8, 10])
    assert_loads(resumed(job.storage.root))


def test_a_newer_attempt_ends_the_older_one_at_its_next_step(small: Volume) -> None:
    job = TrainingJob(small.path / "job", background=False)
    job.train(1)
    SavingJob(small.path / "job", attempt=2)
    with pytest.raises(FencedError):
        job.train(1)


def two_ranks_save(root: Path) -> str:
    run = a_run(root, trainer={"numProcPerNode": 2})
    if dist.get_rank() == 0:
        open_storage(run)
    dist.barrier()
    saver = a_saver(run, StateBackend(), Storage.of(run))
    saver.save(LoopState(step=1), rng=1)
    if dist.get_rank() == 0:
        with_bytes(root, Volume(root), 20)
    with pytest.raises(StorageError) as told:
        saver.save(LoopState(step=2), rng=2)
    dist.barrier()
    if dist.get_rank() == 0:
        (root / BALLAST).unlink()
    dist.barrier()
    saver.save(LoopState(step=3), rng=3)
    return str(told.value)


def test_all_ranks_hear_of_it_in_the_same_words_and_save_once_there_is_room(small: Volume) -> None:
    told = run_ranks(2, two_ranks_save, small.path)
    assert told[0] == told[1]
    assert "is full" in told[0]
    assert sorted(path.name for path in (small.path / "checkpoints").iterdir()) == ["step_1", "step_3"]
