"""Which job a command means: all take a job's name or a directory, and neither when there is only one job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from rljob_api.job import RLJob
from rljob_api.status import Status
from rljob_operator.cluster.workdir import WorkDir, WorkDirError
from rljob_trainer.checkpoint.directory import JOB_FILE, Directory

from .errors import UserMistake

RUNS = Path("runs")
"""Where `rljob run` keeps its work directories."""


def known_jobs(incomplete: str = "") -> list[str]:
    """Names of the jobs that were run from here, also for completion in a shell."""
    names = sorted(path.parent.name for path in RUNS.glob(f"*/{JOB_FILE}"))
    return [name for name in names if name.startswith(incomplete)]


Job = Annotated[
    str | None,
    typer.Argument(
        help="Name of the job, or its work directory; without it the only one under runs/.",
        autocompletion=known_jobs,
        show_default=False,
    ),
]
StoredJob = Annotated[
    str | None,
    typer.Argument(
        help="Name of the job, its work directory or its storage; without it the only one under runs/.",
        autocompletion=known_jobs,
        show_default=False,
    ),
]


def find_work_dir(job: str | None) -> WorkDir:
    """By name under `runs/`, by path, or the only one there is. Raises `UserMistake`."""
    for place in _places(job):
        if (place / JOB_FILE).is_file():
            return WorkDir(place)
    raise UserMistake(f"no job was run in {_listed(_places(job))}; {_choices()}")


def read_status(work_dir: WorkDir) -> Status | None:
    """None before the first. Raises `UserMistake` for one that is damaged."""
    try:
        return work_dir.read_status()
    except WorkDirError as error:
        raise UserMistake(str(error)) from error


def find_storage(job: str | None) -> Directory:
    """The storage in or below the place that `job` means: a work directory, a storage, or a volume. Raises
    `UserMistake`."""
    for place in _places(job):
        found = [path for path in _below(place) if Directory(path).attempts.is_dir()]
        if len(found) > 1:
            raise UserMistake(f"{place} holds several jobs; name one of: {_listed(found)}")
        if found:
            return Directory(found[0])
    raise UserMistake(f"nothing was trained yet in {_listed(_places(job))}; {_choices()}")


def refuse_absent_initial(job: RLJob, place: Path) -> None:
    """A job in that work directory which begins with a checkpoint of another, of which there is none: the pods would
    find it out later. One that has its own needs no other. Raises `UserMistake`."""
    other = job.spec.initial_checkpoint and job.spec.initial_checkpoint.rljob_name
    if not other or _has_checkpoints(place) or _has_checkpoints(place.parent / other):
        return
    there = sorted(beside.name for beside in place.parent.glob("*") if _has_checkpoints(beside))
    known = f"there are those of {', '.join(there)}" if there else "nor of any other job"
    raise UserMistake(
        f"spec.initialCheckpoint.rljobName: no checkpoint of `{other}` is in {place.parent}; {known}"
    )


def _has_checkpoints(place: Path) -> bool:
    return bool(Directory(WorkDir(place).storage).steps())


def _places(job: str | None) -> list[Path]:
    if job is not None:
        return [Path(job)] if Path(job).is_absolute() else [Path(job), RUNS / job]
    known = known_jobs()
    if len(known) != 1:
        raise UserMistake(f"say which job; {_choices()}")
    return [RUNS / known[0]]


def _below(place: Path) -> list[Path]:
    """`place` itself and two levels down: a work directory's storage, and jobs beside each other on a volume."""
    return sorted(file.parent for level in ("", "*/", "*/*/") for file in place.glob(level + JOB_FILE))


def _choices() -> str:
    names = ", ".join(known_jobs())
    if names:
        return f"known here: {names}"
    return f"nothing was run from here yet (no {RUNS}/*/{JOB_FILE}): name a work directory, or `rljob run` a job file"


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))
