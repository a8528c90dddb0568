"""`spec.initialCheckpoint`: a checkpoint of another job, found and verified. Nothing is ever written there.

Which one it was is noted in the job's own directory (`initial.json`) before the first step: an attempt that finds no
checkpoint of its own begins with the same, though the other job may have saved newer ones since.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rljob_api.base import Record
from rljob_api.checkpoint import InitialCheckpoint
from rljob_api.run import Run
from rljob_trainer.errors import Mistake

from .directory import INITIAL_FILE, Directory
from .durable import StorageError, read_record, remove_durably, storage_errors, write_durably
from .past import Past
from .verify import Problem, first_whole, problem_of, read_manifest


class Chosen(Record):
    """Content of `initial.json`."""

    wanted: InitialCheckpoint
    """The field as it was then."""
    step: int
    """Of the checkpoint that was chosen by it."""


@dataclass(frozen=True)
class Beginning:
    """What a job begins with as long as it has no checkpoint of its own."""

    path: Path | None = None
    """The checkpoint; None is step 0."""
    chosen: Chosen | None = None
    before: Chosen | None = None
    """What the attempts before had begun with."""
    told: tuple[str, ...] = ()
    """A sentence for each that was passed over."""

    def past(self, past: Past) -> Past:
        """How far they came, as seen from here. The steps that they finished from another beginning are none of this
        one's: how many were lost with them is not told, but that some were."""
        if past.first or self.chosen == self.before:
            return past
        begun = self.before.step if self.before else 0
        nothing = past.lost(begun) == 0
        return Past((self.chosen.step if self.chosen else 0) if nothing else None)

    def note(self, root: Path) -> None:
        """For the attempts that follow."""
        if self.chosen == self.before:
            return
        if self.chosen:
            write_durably(root / INITIAL_FILE, self.chosen.model_dump_json(by_alias=True))
        else:
            remove_durably(root / INITIAL_FILE)


def beginning(run: Run, own: Path) -> Beginning:
    """By the spec, and by what is noted in the job's `own` directory. Raises `Mistake` if no such checkpoint is there
    and whole, and `StorageError` if its volume does not tell."""
    wanted, before = run.spec.initial_checkpoint, _noted(own)
    if wanted is None:
        return Beginning(before=before)
    root = Path(wanted.path).parent if wanted.path else Path(run.paths.initial)
    with storage_errors(root, "Looking for the checkpoint of spec.initialCheckpoint"):
        if wanted.path or wanted.step is not None:
            path, told = _named(wanted, root), list[str]()
        else:
            pinned = before.step if before and before.wanted == wanted else None
            path, told = _of_job(Directory(root), pinned)
        step = read_manifest(path).step
        _refuse_the_end(step, run.spec.algorithm.grpo.max_steps)
        return Beginning(path, Chosen(wanted=wanted, step=step), before, tuple(told))


def _refuse_the_end(step: int, last: int) -> None:
    """The job would be complete at once, without a word of why."""
    if step >= last:
        raise Mistake(
            f"spec.initialCheckpoint is of step {step}, and algorithm.grpo.maxSteps, which counts those before too, is"
            f" {last}: nothing would be trained. Set maxSteps above {step}, or name an earlier step of that job."
        )


def _noted(own: Path) -> Chosen | None:
    return read_record(own / INITIAL_FILE, Chosen, "what the attempts before had begun with is not known")


def _named(wanted: InitialCheckpoint, root: Path) -> Path:
    """That one and no other."""
    path = Path(wanted.path) if wanted.path else Directory(root).checkpoint(wanted.step or 0)
    if not path.is_dir():
        raise Mistake(f"spec.initialCheckpoint: there is no directory {path}. {_there(path.parent)}")
    if problem := problem_of(path):
        _refuse_unreadable(path, problem)
        raise Mistake(
            f"spec.initialCheckpoint: {path} is not whole: {problem.told}. Name another step of that job."
        )
    return path


def _of_job(directory: Directory, pinned: int | None) -> tuple[Path, list[str]]:
    """The one that was chosen before, else the newest that is whole; and a sentence for each that was passed over."""
    steps = directory.steps() if directory.checkpoints.is_dir() else []
    if not steps:
        raise Mistake(f"spec.initialCheckpoint.rljobName: {directory.root} holds no checkpoint of that job.")
    order = sorted(steps, key=lambda step: (step != pinned, -step))
    found, wrong = first_whole(order, lambda step: problem_of(directory.checkpoint(step)))
    for step, problem in wrong.items():
        if found is None or step == pinned:
            _refuse_unreadable(directory.checkpoint(step), problem)
    if found is None:
        raise Mistake(
            f"spec.initialCheckpoint.rljobName: no checkpoint in {directory.checkpoints} is whole; of the newest,"
            f" {wrong[steps[-1]].told}. Name another job."
        )
    told = [
        f"spec.initialCheckpoint: {directory.checkpoint(step)} was passed over: {problem.told}. It was left where it"
        " is."
        for step, problem in wrong.items()
    ]
    if pinned is not None and found != pinned:
        gone = (
            f"step {pinned} in {directory.checkpoints}, which this job has begun with, is not there any more"
        )
        told.append(f"spec.initialCheckpoint: {gone}. It begins again, with step {found}.")
    return directory.checkpoint(found), told


def _refuse_unreadable(path: Path, problem: Problem) -> None:
    """It may be whole, and readable later."""
    if problem.unreadable:
        raise StorageError(
            f"spec.initialCheckpoint: {path} may be whole, but {problem.told}. Mend its volume, or name another step of"
            " that job."
        )


def _there(folder: Path) -> str:
    found = sorted((one.name for one in folder.iterdir()), key=_by_number) if folder.is_dir() else []
    return f"Beside it there are: {', '.join(found[-10:])}." if found else f"{folder} is empty or missing."


def _by_number(name: str) -> tuple[str, int]:
    """`step_7` before `step_20`."""
    word, _, number = name.rpartition("_")
    return (word, int(number)) if number.isdecimal() else (name, 0)
