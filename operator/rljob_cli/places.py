"""Which work directory a command means: `status`, `logs` and their like take a job's name or a directory."""

from __future__ import annotations

from pathlib import Path

from rljob_operator.cluster.workdir import WorkDir

from .errors import UserMistake

RUNS = Path("runs")


def find_work_dir(job: str | None) -> WorkDir:
    """By name under `runs/`, by path, or the only one there is. Raises `UserMistake`."""
    known = sorted(path.parent for path in RUNS.glob("*/job.json"))
    if job is None:
        return WorkDir(_only(known))
    for place in (Path(job), RUNS / job):
        if (place / "job.json").is_file():
            return WorkDir(place)
    raise UserMistake(f"no job was run in {job} or {RUNS / job}; {_choices(known)}")


def _only(known: list[Path]) -> Path:
    if len(known) != 1:
        raise UserMistake(f"say which job; {_choices(known)}")
    return known[0]


def _choices(known: list[Path]) -> str:
    names = ", ".join(path.name for path in known)
    return f"known here: {names}" if names else f"nothing was run from here yet (no {RUNS}/*/job.json)"
