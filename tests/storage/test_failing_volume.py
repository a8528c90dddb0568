"""A volume answers "input/output error", or not at all, at each call of a save: nothing that was saved is lost."""

from __future__ import annotations

import errno

import pytest

from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.verify import verify
from storage.effects import Deed, Fault
from storage.saving import SavingJob, assert_loads, resumed
from storage.volumes import FailingVolume

EVERYTHING = tuple(Deed)
READING = (Deed.OPEN, Deed.READ)


@pytest.mark.parametrize(
    ("deeds", "times", "stride"),
    [((*filter(lambda deed: deed.changes, Deed),), 1, 1), (EVERYTHING, 1 << 30, 4)],
    ids=["once", "from then on"],
)
def test_an_error_at_any_moment_of_a_save_is_told_and_loses_nothing(
    failing: FailingVolume, deeds: tuple[Deed, ...], times: int, stride: int
) -> None:
    told: list[str] = []
    saved = SavingJob(failing.path, 1, keep=1).saved(1)
    for attempt, after in enumerate(range(0, calls_of_a_save(failing), stride), 3):
        job = SavingJob(failing.path, attempt, keep=1)
        try:
            with failing.failing(Fault(errno.EIO, deeds, after=after, times=times)):
                saved = job.saved(attempt)
        except StorageError as error:
            told.append(str(error))
        plan = job.plan()
        assert_loads(plan)
        assert plan.step >= saved
        assert not plan.skipped
    assert len(told) > 10
    sentence = f"Saving a checkpoint failed: the volume at {failing.path} does not work (Input/output error"
    assert all(each.startswith(sentence) for each in told)


def calls_of_a_save(volume: FailingVolume) -> int:
    """Those that change something, the removal of an older checkpoint included."""
    before = len(volume.effects())
    SavingJob(volume.path, 2, keep=1).saved(2)
    return len(volume.effects()) - before


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


def test_while_the_disk_is_slow_training_goes_on_and_nothing_is_told_too_soon(failing: FailingVolume) -> None:
    job = SavingJob(failing.path)
    job.saved(1)
    with failing.failing(Fault(deeds=(Deed.SYNC_FILE,), path="*.distcp", held=True)):
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
    plan = resumed(failing.path)
    assert (plan.step, plan.lost_steps) == (2, 3)
    assert_loads(plan)
