"""`spec.initialCheckpoint`: a checkpoint of another job, found and verified. Nothing is ever written there."""

from __future__ import annotations

from pathlib import Path

from rljob_api.run import Run
from rljob_trainer.errors import Mistake

from .directory import Directory
from .verify import verify


def initial_checkpoint(run: Run) -> Path | None:
    """Its directory; None if the spec names none. Raises `Mistake` if it is not there or not whole."""
    wanted = run.spec.initial_checkpoint
    if wanted is None:
        return None
    path = Path(wanted.path) if wanted.path else _of_job(Path(run.paths.initial), wanted.step)
    if not path.is_dir():
        raise Mistake(f"spec.initialCheckpoint: there is no directory {path}. {_there(path.parent)}")
    if problems := verify(path):
        raise Mistake(
            f"spec.initialCheckpoint: {path} is not whole: {problems[0]}. Name another step of that job."
        )
    return path


def _of_job(root: Path, step: int | None) -> Path:
    directory = Directory(root)
    if step is not None:
        return directory.checkpoint(step)
    steps = directory.steps() if directory.checkpoints.is_dir() else []
    if not steps:
        raise Mistake(f"spec.initialCheckpoint.rljobName: {root} holds no checkpoint of that job.")
    return directory.checkpoint(steps[-1])


def _there(folder: Path) -> str:
    found = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    return f"Beside it there are: {', '.join(found[-10:])}." if found else f"{folder} is empty or missing."
