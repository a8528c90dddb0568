"""The power goes at any moment: what was told to be saved is there, what is there is whole, and no step that was
finished beside it is forgotten.

Every call that reaches the volume is recorded while a job saves; then each disk is made that it may have left.
"""

from __future__ import annotations

import math
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rljob_api.parallelism import BackendName
from rljob_trainer.checkpoint.directory import Directory
from rljob_trainer.checkpoint.durable import sync_directory
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.checkpoint.verify import verify
from rljob_trainer.errors import Mistake
from storage.effects import Deed, Effect
from storage.power_cut import after_power_cut
from storage.saving import SavingJob, StateBackend, States, assert_loads, on_backend, on_each_backend, resumed
from storage.volumes import FailingVolume, Volume

TRIES = int(os.environ.get("RLJOB_POWER_CUTS", "2"))
"""Disks that chance makes of each moment, besides the one on which nothing arrived."""
STEPS = (1, 3, 5)
"""That are saved; after each another is finished."""
JOB, TOLD, DONE = "job", "told", "done"
SYNCS = {Deed.SYNC_FILE, Deed.SYNC_FOLDER}


def record(states: States, volume: FailingVolume) -> list[Effect]:
    """A job takes its first checkpoints, and notes on the same volume what it was told: so the order is known."""
    (volume.path / JOB).mkdir()
    sync_directory(volume.path)  # in a cluster the job's directory is the mount, and was there before
    job = SavingJob(volume.path / JOB, 1, 1, states)
    (volume.path / TOLD).mkdir()
    (volume.path / DONE).mkdir()
    for step in STEPS:
        job.notes.finished(step)
        (volume.path / DONE / str(step)).mkdir()
        job.saved(step)
        (volume.path / TOLD / str(step)).mkdir()
        job.notes.finished(step + 1)
        (volume.path / DONE / str(step + 1)).mkdir()
    return volume.effects()


def newest(kind: str, effects: list[Effect]) -> int:
    """The newest step that was told to be saved, or finished, before."""
    steps = [
        int(Path(e.path).name) for e in effects if e.deed is Deed.MKDIR and e.path.startswith(f"/{kind}/")
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
) -> Iterator[tuple[int, int, Path]]:
    """For each moment of the record all disks that are tried: the step that must be there, the last that was finished,
    and the disk."""
    for at in moments(effects, backend):
        for dice in (None, *(random.Random(f"{at}-{number}") for number in range(tries))):
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                after_power_cut(effects, at, dice, Path(folder))
                yield newest(TOLD, effects[:at]), newest(DONE, effects[:at]), Path(folder) / JOB


def lost(states: States, effects: list[Effect], scratch: Path, tries: int = 0) -> Iterator[str]:
    """What the next attempt misses of what was told, or finds half, over all disks."""
    for promised, done, root in disks(effects, scratch, tries, states.name):
        try:
            plan = resumed(root, 2, states.name)
        except Mistake as refusal:
            yield str(refusal)
            continue
        assert_loads(plan, states)
        yield from (*plan.skipped, *broken(root))
        if plan.step < promised:
            yield f"step {promised} was told, {plan.step} is there"
        if claimed(plan) < done:
            yield f"step {done} was finished, {claimed(plan)} is claimed to be the last, and {plan.exactness}"


def claimed(plan: ResumePlan) -> float:
    """The last step that was finished before, as the resume has it; no end to it where it owns not to know."""
    return math.inf if plan.furthest is None else plan.furthest


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


def of_the_notes(effect: Effect) -> bool:
    return effect.deed is Deed.SYNC_FOLDER and effect.path.endswith("/attempts")


@on_each_backend
def test_without_one_kind_of_sync_something_that_was_told_is_lost(
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
        for left_out in (of_a_file, of_the_checkpoints, of_a_folder_inside, of_the_notes)
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
