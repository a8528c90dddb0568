"""Which job a command means: by name, by directory, or the only one there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders import a_job as an_rljob
from builders import addition
from cli.test_recorded import with_samples
from rljob_api.job import RLJob
from rljob_api.progress import EXIT_FAILED
from rljob_api.run import RUN_FILE
from rljob_cli import replay
from rljob_cli.errors import UserMistake
from rljob_cli.places import find_storage, find_work_dir, known_jobs, refuse_absent_initial
from rljob_operator.cluster.workdir import WorkDir
from rljob_trainer.checkpoint.directory import open_storage
from trainer.checkpoints import a_run, save


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_job(name: str, *, trained: bool = True) -> Path:
    """A work directory as `rljob run` leaves it; its storage, once a trainer has opened it."""
    work = Path("runs", name)
    work.mkdir(parents=True)
    (work / "job.json").write_text("{}")
    if trained:
        a_storage(work / "storage")
    return work


def a_storage(path: Path) -> Path:
    (path / "attempts").mkdir(parents=True)
    (path / "job.json").write_text("{}")
    return path


@pytest.mark.parametrize("said", ["sums", "runs/sums", None])
def test_a_job_is_found_by_name_by_directory_or_as_the_only_one(said: str | None) -> None:
    work = a_job("sums")
    assert find_work_dir(said).path == work.resolve()
    assert find_storage(said).root == work / "storage"


def test_a_storage_is_found_by_itself_and_as_the_only_one_on_a_volume(here: Path) -> None:
    storage = a_storage(here / "volume" / "rl" / "sums")
    assert find_storage(str(storage)).root == storage
    assert find_storage(str(here / "volume")).root == storage


def a_job_to_replay(folder: Path) -> Path:
    """Its file lies in that folder; where a replay of its first step, the only one, has its own things."""
    work = a_job("sums", trained=False)
    open_storage(a_run(work / "storage"))
    with_samples(work / "storage", range(1, 2))
    WorkDir(work).identify(an_rljob(), folder)
    config = work / "config" / "sums-run-1"
    config.mkdir(parents=True)
    (config / RUN_FILE).write_text(a_run(work / "storage").model_dump_json(by_alias=True))
    return work / "replay" / "step_1"


def test_a_replay_looks_for_the_jobs_files_where_the_job_did(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "jobs"
    folder.mkdir()
    a_job_to_replay(folder)
    assert started_by(monkeypatch, step=1)[1] == folder


def started_by(monkeypatch: pytest.MonkeyPatch, step: int) -> tuple[RLJob, Path]:
    """What a replay of that step, drawn anew, would run, and where its relative paths start."""
    started: list[tuple[RLJob, Path]] = []

    def fails(job: RLJob, folder: Path, *rest: object, **more: object) -> int:
        started.append((job, folder))
        return EXIT_FAILED

    monkeypatch.setattr(replay, "run_job", fails)
    with pytest.raises(UserMistake, match="could not be done again"):
        replay.replay("sums", step=step, draw=True)
    return started[0]


def test_a_replay_passes_over_a_damaged_checkpoint_and_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_job_to_replay(here)
    storage = find_storage("sums")
    save(a_run(storage.root), 2, 4)
    with_samples(storage.root, range(1, 6))
    (storage.checkpoint(4) / "state" / "rank_0.bin").write_bytes(b"weightt4")
    initial = started_by(monkeypatch, step=5)[0].spec.initial_checkpoint
    assert initial is not None
    assert initial.path == str(storage.checkpoint(2).resolve())
    told = "The checkpoint of step 4 was passed over: state/rank_0.bin does not match its checksum.\n"
    assert capsys.readouterr().err == told
    assert storage.checkpoint(4).is_dir(), "a replay only reads"


def test_a_step_that_never_ran_is_not_begun(here: Path) -> None:
    a_job_to_replay(here)
    with pytest.raises(UserMistake, match="step 500 was never done: the job has come to step 1"):
        replay.replay("sums", step=500, draw=True)


def test_a_replay_by_the_file_of_another_job_is_not_begun(here: Path) -> None:
    a_job_to_replay(here)
    file = here / "other.yaml"
    file.write_text(json.dumps(addition("other", 1)))
    with pytest.raises(UserMistake, match=r"other.yaml is of the job other, and .*/storage of demo"):
        replay.replay("sums", step=1, draw=True, file=file)


def test_a_replay_takes_nothing_from_one_that_runs(here: Path) -> None:
    other = WorkDir(a_job_to_replay(here))
    other.open()
    (other.storage / "samples").mkdir()
    with pytest.raises(UserMistake, match="already run by process"):
        replay.replay("sums", step=1, draw=True)
    assert (other.storage / "samples").is_dir()
    other.close()


def test_a_replay_does_not_begin_beside_what_it_cannot_remove(here: Path) -> None:
    place, elsewhere = a_job_to_replay(here), here / "elsewhere"
    elsewhere.mkdir()
    place.mkdir(parents=True)
    (place / "storage").symlink_to(elsewhere)
    with pytest.raises(UserMistake, match=f"left in {here / place} cannot be removed: .*symbolic link"):
        replay.replay("sums", step=1, draw=True)


def test_two_jobs_on_a_volume_are_named(here: Path) -> None:
    storages = [a_storage(here / "volume" / name) for name in ("one", "two")]
    with pytest.raises(UserMistake) as told:
        find_storage(str(here / "volume"))
    assert str(told.value) == (f"{here}/volume holds several jobs; name one of: {storages[0]}, {storages[1]}")


def test_with_two_jobs_one_must_be_named() -> None:
    a_job("one")
    a_job("two")
    for find in (find_work_dir, find_storage):
        with pytest.raises(UserMistake, match="say which job; known here: one, two"):
            find(None)
    assert known_jobs("t") == ["two"]


def test_a_job_that_is_not_there_is_told_with_those_that_are() -> None:
    a_job("sums", trained=False)
    with pytest.raises(UserMistake, match="no job was run in sms, runs/sms; known here: sums"):
        find_work_dir("sms")
    with pytest.raises(UserMistake, match="nothing was trained yet in sums, runs/sums; known here: sums"):
        find_storage("sums")


@pytest.mark.parametrize("other", ["warn", "sums"], ids=["misspelt", "itself"])
def test_a_job_that_begins_with_none_of_those_beside_it_is_not_begun(other: str) -> None:
    (a_job("warm") / "storage" / "checkpoints" / "step_3").mkdir(parents=True)
    job = an_rljob(initialCheckpoint={"rljobName": other})
    with pytest.raises(UserMistake, match=f"no checkpoint of `{other}` is in runs; there are those of warm"):
        refuse_absent_initial(job, Path("runs", "sums"))


def test_a_job_that_has_checkpoints_needs_those_of_no_other() -> None:
    (a_job("sums") / "storage" / "checkpoints" / "step_3").mkdir(parents=True)
    refuse_absent_initial(an_rljob(initialCheckpoint={"rljobName": "gone"}), Path("runs", "sums"))


def test_where_nothing_was_run_that_is_said() -> None:
    with pytest.raises(UserMistake, match="nothing was run from here yet"):
        find_work_dir(None)
