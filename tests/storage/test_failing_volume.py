"""A volume answers "input/output error", or not at all, at each call of a save: nothing that was saved is lost."""

from __future__ import annotations

import errno
from fnmatch import fnmatch
from pathlib import Path

import pytest

from rljob_api.parallelism import BackendName
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.verify import verify
from storage.effects import Deed, Fault
from storage.saving import SavingJob, States, assert_loads, on_backend, on_each_backend, resumed
from storage.volumes import FailingVolume

EVERYTHING = tuple(Deed)
READING = (Deed.OPEN, Deed.READ)
CHANGES = tuple(filter(lambda deed: deed.changes, Deed))
OWN = {BackendName.DTENSOR: "*", BackendName.MEGATRON: "*/state*"}
"""Where errors are tried: what is around the files of a backend is the same with all of them."""


@on_each_backend
def test_an_error_at_any_moment_of_a_save_is_told_and_loses_nothing(
    tmp_path: Path, failing: FailingVolume, backend: BackendName
) -> None:
    told = on_backend(backend, tmp_path, told_of_errors, failing)
    assert len(told) > 20
    sentence = f"Saving a checkpoint failed: the volume at {failing.path} does not work (Input/output error"
    assert all(each.startswith(sentence) for each in told)


def told_of_errors(states: States, volume: FailingVolume) -> list[str]:
    """What was said of the saves that met one error, or nothing but errors from then on."""
    SavingJob(volume.path, 1, 1, states).saved(1)
    moments, path = moments_of_a_save(states, volume), OWN[states.name]
    faults = [
        *(Fault(errno.EIO, CHANGES, path, after=after, times=1) for after in moments),
        *(Fault(errno.EIO, EVERYTHING, path, after=after) for after in moments[::4]),
    ]
    told = (meet(states, volume, fault, attempt) for attempt, fault in enumerate(faults, 3))
    return list(filter(None, told))


def meet(states: States, volume: FailingVolume, fault: Fault, attempt: int) -> str:
    """Save when that is the fault, and go on from what is there; what was said, if the save failed."""
    job, told = SavingJob(volume.path, attempt, 1, states), ""
    saved = job.plan().step
    try:
        with volume.failing(fault):
            saved = job.saved(attempt)
    except StorageError as error:
        told = str(error)
    plan = job.plan()
    assert_loads(plan, states)
    assert plan.step >= saved
    assert not plan.skipped
    return told


def moments_of_a_save(states: States, volume: FailingVolume) -> list[int]:
    """How many calls that change something are before each of them, the removal of an older checkpoint included; of
    many in a row on one file, only before the first and the last."""
    before = len(volume.effects())
    SavingJob(volume.path, 2, 1, states).saved(2)
    calls = [
        (effect.deed, effect.path)
        for effect in volume.effects()[before:]
        if fnmatch(effect.path, OWN[states.name])
    ]
    return [at for at, call in enumerate(calls) if not calls[at - 1 : at] == [call] == calls[at + 1 : at + 2]]


def test_a_checkpoint_that_cannot_be_read_is_passed_over_and_kept(failing: FailingVolume) -> None:
    job = SavingJob(failing.path)
    job.saved(1)
    job.saved(2)
    with failing.failing(Fault(errno.EIO, READING, "*/step_2/state/*.distcp")):
        plan = resumed(failing.path)
    assert plan.step == 1
    assert_loads(plan)
    assert "step 2 was passed over: state/__0_0.distcp cannot be read: Input/output error" in plan.skipped[0]
    (aside,) = (failing.path / "quarantine").iterdir()
    aside.rename(aside.with_name("step_2"))
    assert verify(aside.with_name("step_2")) == [], "for people, not for the dustbin"


def test_a_save_holds_although_an_older_one_cannot_be_removed(failing: FailingVolume) -> None:
    job = SavingJob(failing.path, keep=1)
    job.saved(1)
    with failing.failing(Fault(errno.EIO, (Deed.RENAME,), "*/step_1")):
        assert job.saved(2) == 2
    assert job.storage.steps() == [1, 2]
    job.saved(3)
    assert job.storage.steps() == [3], "what could not be removed goes after the next save"


@pytest.mark.parametrize("file", ["manifest.json", "state/*.distcp", "loop.json"])
def test_a_volume_that_cannot_be_read_for_a_while_never_costs_all_steps(
    failing: FailingVolume, file: str
) -> None:
    job = SavingJob(failing.path)
    job.saved(1)
    job.saved(2)
    with (
        failing.failing(Fault(errno.EIO, READING, f"*/checkpoints/*/{file}")),
        pytest.raises(StorageError, match=r"step 2 may be: .* Input/output error\. Nothing was moved"),
    ):
        resumed(failing.path)
    plan = resumed(failing.path, attempt=3)
    assert (plan.step, plan.skipped) == (2, ())
    assert_loads(plan)


@on_each_backend
def test_while_the_disk_is_slow_training_goes_on_and_nothing_is_told_too_soon(
    tmp_path: Path, failing: FailingVolume, backend: BackendName
) -> None:
    on_backend(backend, tmp_path, train_while_the_disk_is_slow, failing)


def train_while_the_disk_is_slow(states: States, volume: FailingVolume) -> None:
    job = SavingJob(volume.path, states=states)
    job.saved(1)
    with volume.failing(Fault(deeds=(Deed.SYNC_FILE,), path="*.distcp", held=True)):
        job.begin(2)
        for step in (3, 4, 5):
            job.notes.finished(step)
            assert job.saver.poll() is None
            assert job.saver.latest is not None
            assert job.saver.latest.manifest.step == 1
        assert job.storage.steps() == [1]
    finished = job.saver.finish()
    assert finished is not None
    assert finished.manifest.step == 2
    plan = resumed(volume.path, 2, states.name)
    assert (plan.step, plan.lost_steps) == (2, 3)
    assert_loads(plan, states)
