"""The power goes at any moment of a save: what was told to be saved is there, and what is there is whole.

Every call that reaches the volume is recorded while a job saves; then each disk is made that it may have left.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rljob_trainer.checkpoint.directory import Directory
from rljob_trainer.checkpoint.durable import sync_directory
from rljob_trainer.checkpoint.verify import verify
from rljob_trainer.errors import Mistake
from storage.effects import Deed, Effect
from storage.power_cut import after_power_cut
from storage.saving import SavingJob, assert_loads, resumed
from storage.volumes import FailingVolume, Volume

TRIES = int(os.environ.get("RLJOB_POWER_CUTS", "2"))
"""Disks that chance makes of each moment, besides the one on which nothing arrived."""
STEPS = (1, 2, 3)
JOB, TOLD = "job", "told"


def record(volume: FailingVolume) -> list[Effect]:
    """A job takes its first checkpoints, and notes on the same volume what it was told: so the order is known."""
    (volume.path / JOB).mkdir()
    sync_directory(volume.path)  # in a cluster the job's directory is the mount, and was there before
    job = SavingJob(volume.path / JOB, keep=1)
    (volume.path / TOLD).mkdir()
    for step in STEPS:
        job.saved(step)
        (volume.path / TOLD / str(step)).mkdir()
        job.notes.finished(step)
    return volume.effects()


def told_before(effects: list[Effect]) -> int:
    """The newest step that was told to be saved."""
    steps = [
        int(Path(e.path).name) for e in effects if e.deed is Deed.MKDIR and e.path.startswith(f"/{TOLD}/")
    ]
    return max(steps, default=0)


def disks(effects: list[Effect], scratch: Path, tries: int) -> Iterator[tuple[int, Path]]:
    """For each moment of the record all disks that are tried: the step that must be there, and the disk."""
    for at in range(len(effects) + 1):
        for dice in (None, *(random.Random(f"{at}-{number}") for number in range(tries))):
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                after_power_cut(effects, at, dice, Path(folder))
                yield told_before(effects[:at]), Path(folder) / JOB


def lost(effects: list[Effect], scratch: Path, tries: int = 0) -> list[str]:
    """What the next attempt misses of what was told, or finds half, over all disks."""
    found = []
    for promised, root in disks(effects, scratch, tries):
        try:
            plan = resumed(root)
        except Mistake as refusal:
            found.append(str(refusal))
            continue
        assert_loads(plan)
        found += [*plan.skipped, *broken(root)]
        if plan.step < promised:
            found.append(f"step {promised} was told, {plan.step} is there")
    return found


def broken(root: Path) -> list[str]:
    """What has the name of a checkpoint, and is none."""
    job = Directory(root)
    return [problem for step in job.steps() for problem in verify(job.checkpoint(step))]


def test_whatever_the_power_leaves_the_last_checkpoint_told_is_there_and_whole(
    failing: FailingVolume, small: Volume
) -> None:
    assert lost(record(failing), small.path, TRIES) == []


def of_a_file(effect: Effect) -> bool:
    return effect.deed is Deed.SYNC_FILE


def of_the_checkpoints(effect: Effect) -> bool:
    return effect.deed is Deed.SYNC_FOLDER and effect.path.endswith("/checkpoints")


def of_a_folder_inside(effect: Effect) -> bool:
    return effect.deed is Deed.SYNC_FOLDER and "/checkpoints/" in effect.path


@pytest.mark.parametrize("left_out", [of_a_file, of_the_checkpoints, of_a_folder_inside])
def test_without_one_kind_of_sync_a_checkpoint_that_was_told_is_lost(
    failing: FailingVolume, small: Volume, left_out: Callable[[Effect], bool]
) -> None:
    """Negative control: the same record, had the job not waited there."""
    kept = [effect for effect in record(failing) if not left_out(effect)]
    assert lost(kept, small.path)


def test_a_job_that_never_waits_for_the_disk_loses_what_it_told(
    failing: FailingVolume, small: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control, in the code itself."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    effects = record(failing)
    assert not [effect for effect in effects if effect.deed in {Deed.SYNC_FILE, Deed.SYNC_FOLDER}]
    monkeypatch.undo()
    assert lost(effects, small.path)
