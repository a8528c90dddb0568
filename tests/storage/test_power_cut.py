"""The power goes at any moment of a save: what was told to be saved is there, and what is there is whole.

Every call that reaches the volume is recorded while a job saves; then each disk is made that it may have left.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rljob_api.parallelism import BackendName
from rljob_trainer.checkpoint.directory import Directory
from rljob_trainer.checkpoint.durable import sync_directory
from rljob_trainer.checkpoint.verify import verify
from rljob_trainer.errors import Mistake
from storage.effects import Deed, Effect
from storage.power_cut import after_power_cut
from storage.saving import SavingJob, StateBackend, States, assert_loads, on_backend, on_each_backend, resumed
from storage.volumes import FailingVolume, Volume

TRIES = int(os.environ.get("RLJOB_POWER_CUTS", "2"))
"""Disks that chance makes of each moment, besides the one on which nothing arrived."""
STEPS = (1, 2, 3)
JOB, TOLD = "job", "told"
SYNCS = {Deed.SYNC_FILE, Deed.SYNC_FOLDER}


def record(states: States, volume: FailingVolume) -> list[Effect]:
    """A job takes its first checkpoints, and notes on the same volume what it was told: so the order is known."""
    (volume.path / JOB).mkdir()
    sync_directory(volume.path)  # in a cluster the job's directory is the mount, and was there before
    job = SavingJob(volume.path / JOB, 1, 1, states)
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


def moments(effects: list[Effect], backend: BackendName) -> list[int]:
    """When the power goes: at any time. What Megatron wrote takes long to load, so only before each sync, when most is
    uncertain, and at the end."""
    return [
        at
        for at, effect in enumerate([*effects, None])
        if backend is BackendName.DTENSOR or effect is None or effect.deed in SYNCS
    ]


def disks(
    effects: list[Effect], scratch: Path, tries: int, backend: BackendName
) -> Iterator[tuple[int, Path]]:
    """For each moment of the record all disks that are tried: the step that must be there, and the disk."""
    for at in moments(effects, backend):
        for dice in (None, *(random.Random(f"{at}-{number}") for number in range(tries))):
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                after_power_cut(effects, at, dice, Path(folder))
                yield told_before(effects[:at]), Path(folder) / JOB


def lost(states: States, effects: list[Effect], scratch: Path, tries: int = 0) -> Iterator[str]:
    """What the next attempt misses of what was told, or finds half, over all disks."""
    for promised, root in disks(effects, scratch, tries, states.name):
        try:
            plan = resumed(root, 2, states.name)
        except Mistake as refusal:
            yield str(refusal)
            continue
        assert_loads(plan, states)
        yield from (*plan.skipped, *broken(root))
        if plan.step < promised:
            yield f"step {promised} was told, {plan.step} is there"


def broken(root: Path) -> list[str]:
    """What has the name of a checkpoint, and is none."""
    job = Directory(root)
    return [problem for step in job.steps() for problem in verify(job.checkpoint(step))]


@on_each_backend
def test_whatever_the_power_leaves_the_last_checkpoint_told_is_there_and_whole(
    tmp_path: Path, failing: FailingVolume, small: Volume, backend: BackendName
) -> None:
    assert on_backend(backend, tmp_path, all_that_is_lost, failing, small) == []


def all_that_is_lost(states: States, volume: FailingVolume, scratch: Volume) -> list[str]:
    return list(lost(states, record(states, volume), scratch.path, TRIES))


def of_a_file(effect: Effect) -> bool:
    return effect.deed is Deed.SYNC_FILE


def of_the_checkpoints(effect: Effect) -> bool:
    return effect.deed is Deed.SYNC_FOLDER and effect.path.endswith("/checkpoints")


def of_a_folder_inside(effect: Effect) -> bool:
    return effect.deed is Deed.SYNC_FOLDER and "/checkpoints/" in effect.path


@on_each_backend
def test_without_one_kind_of_sync_a_checkpoint_that_was_told_is_lost(
    tmp_path: Path, failing: FailingVolume, small: Volume, backend: BackendName
) -> None:
    """Negative control: the same record, had the job not waited there."""
    found = on_backend(backend, tmp_path, lost_without_each_kind, failing, small)
    assert [kind for kind, missed in found.items() if not missed] == []


def lost_without_each_kind(states: States, volume: FailingVolume, scratch: Volume) -> dict[str, str]:
    """By kind, the first that is missed of what was told; empty if nothing is."""
    effects = record(states, volume)
    return {
        left_out.__name__: next(
            lost(states, [effect for effect in effects if not left_out(effect)], scratch.path), ""
        )
        for left_out in (of_a_file, of_the_checkpoints, of_a_folder_inside)
    }


def test_a_job_that_never_waits_for_the_disk_loses_what_it_told(
    failing: FailingVolume, small: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control, in the code itself."""
    states = StateBackend()
    monkeypatch.setattr(os, "fsync", lambda _: None)
    effects = record(states, failing)
    assert not [effect for effect in effects if effect.deed in SYNCS]
    monkeypatch.undo()
    assert next(lost(states, effects, small.path), None)
