"""Negative controls of the exact resume: what is not restored, or is from another step, does not go unseen.

Runs are compared as those of `e2e/test_exactness.py` are, by what they leave on their volume.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest import mock

import pytest

from e2e.volume import Volume, differences
from rljob_api.checkpoint import InitialCheckpoint
from rljob_api.job import Metadata, RLJob
from rljob_api.manifest import MANIFEST_FILE
from rljob_api.parallelism import BackendName
from rljob_api.progress import Ending
from rljob_api.run import Replay, Run
from rljob_api.status import Exactness
from rljob_cli.difference import first_difference
from rljob_cli.recorded import recorded
from rljob_cli.replay import again
from rljob_operator.cluster.container import machine_places
from rljob_operator.cluster.workdir import WorkDir
from rljob_operator.render.initial import initial
from rljob_trainer.checkpoint.directory import STATE, Directory
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.checkpoint.scrub import Scrub
from rljob_trainer.checkpoint.verify import SEAL_FILE, read_manifest, seal, sha256_of, verify
from trainer.answering import a_model
from trainer.checkpoints import save
from trainer.resuming import STEPS, Change, Told, a_job, trained, without_the_data_position

STOPPED = 3
SHARD = f"{STATE}/__1_0.distcp"
"""What rank 1 has written."""


@pytest.fixture(scope="module", params=list(BackendName))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the model, a run that nothing stopped, and one that was told to go in the middle. Named by its backend."""
    backend: BackendName = request.param
    found = tmp_path_factory.mktemp("inexact") / backend
    found.mkdir()
    a_model(found / "model")
    assert trained(a_job(found / "straight", backend)).ending is Ending.COMPLETE
    told = trained(a_job(found / "stopped", backend), stop=STOPPED)
    assert told.message == f"told to go; step {STOPPED} is saved"
    assert newest_two(Directory(found / "stopped" / "storage")) == [STOPPED - 1, STOPPED]
    return found


def newest_two(directory: Directory) -> list[int]:
    """One that was being read back may be there beside them."""
    return directory.steps()[-2:]


def stopped(folder: Path, name: str) -> Directory:
    """A copy of what the stopped run has left, for one test."""
    shutil.copytree(folder / "stopped", folder / name)
    return Directory(folder / name / "storage")


def went_on(directory: Directory, change: Change | None = None) -> tuple[Told, list[str]]:
    """What the next attempt told, and what of its end differs from the run that nothing stopped."""
    folder = directory.root.parent
    backend = BackendName(folder.parent.name)
    told = trained(a_job(folder, backend, attempt=2), change=change)
    assert told.ending is Ending.COMPLETE
    straight = folder.parent / "straight" / "storage"
    return told, differences(Volume(directory.root), Volume(straight))


def begun_with(run: Run, name: str) -> Run:
    """Another job, that begins with that one's newest checkpoint and finds it as with `rljob run`: the place of the
    rendered mount is the work directory beside its own."""
    spec = run.spec.model_copy(
        update={
            "initial_checkpoint": InitialCheckpoint(rljob_name=name),
            "checkpoint": run.spec.checkpoint.model_copy(update={"load_rng": True}),
        }
    )
    job, work_dir = RLJob(metadata=Metadata(name="new"), spec=spec), WorkDir(Path(run.paths.storage).parent)
    place = machine_places(job, work_dir, Path(run.paths.cache), {})[initial(job).path]
    paths = run.paths.model_copy(update={"initial": place})
    return run.model_copy(update={"name": "new", "uid": "of its own", "spec": spec, "paths": paths})


def replayed(folder: Path) -> Told:
    """The last step of the run that nothing stopped, as `rljob replay` does it."""
    straight = Directory(folder / "straight" / "storage")
    run = a_job(folder / "replay", BackendName(folder.name))
    job = again(RLJob(metadata=Metadata(name=run.name), spec=run.spec), straight, STEPS - 1)
    replay = Replay(last_step=STEPS, samples=str(straight.samples))
    return trained(run.model_copy(update={"spec": job.spec, "replay": replay}))


def take_an_older_shard(directory: Directory) -> Path:
    """Rank 1's part of the newest checkpoint becomes that of the one before. The checkpoint."""
    older, newest = map(directory.checkpoint, newest_two(directory))
    assert (older / SHARD).stat().st_size == (newest / SHARD).stat().st_size, "its size gives nothing away"
    shutil.copyfile(older / SHARD, newest / SHARD)
    return newest


def vouch_for_it(checkpoint: Path) -> None:
    """Make the manifest say what is there: as if nothing were compared."""
    manifest = read_manifest(checkpoint)
    files = [
        entry.model_copy(update={"sha256": sha256_of(checkpoint / entry.path)}) for entry in manifest.files
    ]
    text = manifest.model_copy(update={"files": files}).model_dump_json(by_alias=True)
    (checkpoint / MANIFEST_FILE).write_text(text)
    (checkpoint / SEAL_FILE).write_text(seal(text))


def test_a_run_that_was_told_to_go_ends_as_one_that_was_not(folder: Path) -> None:
    """And what it went on from stays while nothing newer was read back."""
    directory = stopped(folder, "exact")
    told, differing = went_on(directory, change=nothing_is_read_back)
    assert (told.exactness, told.skipped, differing) == ("Exact", [], [])
    assert directory.steps() == [STOPPED, STEPS - 1, STEPS]


def nothing_is_read_back(plan: ResumePlan) -> ResumePlan:
    """In this process, from now on."""
    mock.patch.object(Scrub, "look", return_value=None).start()
    return plan


def test_a_job_that_begins_with_another_by_its_name_ends_as_that_one_would_have(folder: Path) -> None:
    told = trained(begun_with(a_job(folder / "new", BackendName(folder.name)), "stopped"))
    assert (told.ending, told.exactness) == (Ending.COMPLETE, "Exact"), told.message
    new, straight = (Volume(folder / name / "storage") for name in ("new", "straight"))
    behind = range(STOPPED + 1, STEPS + 1)
    assert new.losses() == {step: straight.losses()[step] for step in behind}
    assert new.samples() == {step: straight.samples()[step] for step in behind}
    assert new.weights() == straight.weights()


def test_a_resume_that_cannot_be_met_is_refused_before_its_model_is_looked_for(tmp_path: Path) -> None:
    """There is none: whatever is heavy, or holds a GPU, comes after the plan."""
    run = a_job(tmp_path / "job", BackendName.DTENSOR)
    save(run, 1)
    exact = run.spec.resume.model_copy(update={"exactness": Exactness.EXACT})
    spec = run.spec.model_copy(update={"resume": exact})
    told = trained(run.model_copy(update={"attempt": 2, "token": "2-token", "spec": spec}))
    assert told.ending is Ending.UNMET, told.message
    assert "resume.exactness is Exact, but the resume from step 1 would be" in told.message


def test_the_last_step_done_again_from_its_samples_comes_out_as_it_was(folder: Path) -> None:
    """Nobody is asked for new ones; and it leaves neither checkpoint nor export."""
    told = replayed(folder)
    assert (told.ending, told.message, told.exactness) == (
        Ending.COMPLETE,
        f"step {STEPS} was done again",
        "Exact",
    )
    left = Directory(folder / "replay" / "storage")
    assert (left.steps(), left.export.exists()) == ([], False)
    last = range(STEPS, STEPS + 1)
    was, now = recorded(Directory(folder / "straight" / "storage"), last), recorded(left, last)
    assert list(now[0]) == list(now[1]["loss"]) == [STEPS], "there is something to compare"
    assert first_difference(was, now) is None


def test_a_data_position_that_is_not_restored_is_seen_in_all_that_is_compared(folder: Path) -> None:
    _, differing = went_on(stopped(folder, "from-the-first-prompt"), without_the_data_position)
    assert differing == ["losses", "samples", "weights"]


def test_one_ranks_shard_of_an_older_step_is_refused_and_the_step_before_is_gone_on_from(
    folder: Path,
) -> None:
    directory = stopped(folder, "older-shard")
    checkpoint = take_an_older_shard(directory)
    assert verify(checkpoint) == [f"{SHARD} does not match its checksum"]
    told, differing = went_on(directory)
    assert told.skipped[0].startswith(f"The checkpoint of step {STOPPED} was passed over: {SHARD} does not")
    assert (told.exactness, differing) == ("Exact", []), "the step that is done again comes out the same"


def test_an_older_shard_that_nobody_refuses_is_seen_in_losses_and_weights(folder: Path) -> None:
    directory = stopped(folder, "older-shard-vouched-for")
    checkpoint = take_an_older_shard(directory)
    vouch_for_it(checkpoint)
    assert verify(checkpoint) == []
    _, differing = went_on(directory)
    assert differing == ["losses", "weights"]
