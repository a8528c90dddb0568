"""Which job a command means: by name, by directory, or the only one there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import a_job as an_rljob
from rljob_api.job import RLJob
from rljob_api.progress import EXIT_FAILED
from rljob_api.run import RUN_FILE
from rljob_cli import replay
from rljob_cli.errors import UserMistake
from rljob_cli.places import find_storage, find_work_dir, known_jobs
from rljob_operator.cluster.workdir import WorkDir
from trainer.checkpoints import a_run


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
    """Its file lies in that folder; where a replay of its first step has its own things."""
    work = a_job("sums")
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
    started: list[Path] = []

    def fails(job: RLJob, folder: Path, *rest: object, **more: object) -> int:
        started.append(folder)
        return EXIT_FAILED

    monkeypatch.setattr(replay, "run_job", fails)
    with pytest.raises(UserMistake, match="could not be done again"):
        replay.replay("sums", step=1, draw=True)
    assert started == [folder]


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


def test_where_nothing_was_run_that_is_said() -> None:
    with pytest.raises(UserMistake, match="nothing was run from here yet"):
        find_work_dir(None)
