"""`rljob replay JOB --step N`: run a step again from the checkpoint before it, and say where it parts from what was."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rljob_api.checkpoint import InitialCheckpoint
from rljob_api.job import Metadata, RLJob
from rljob_api.progress import EXIT_COMPLETE
from rljob_api.run import RUN_FILE, Run
from rljob_api.samples import SampleRecord
from rljob_api.status import ConditionType
from rljob_operator.cluster.workdir import WorkDir
from rljob_operator.reconcile import Pass
from rljob_operator.settings import Settings
from rljob_operator.status_reading import condition
from rljob_trainer.checkpoint.directory import Directory

from .difference import Curves, Difference, Samples, first_difference
from .display import Display, JsonLines, PlainLines
from .errors import UserMistake
from .load import load_job
from .output import Output, OutputOption
from .places import StoredJob, find_storage, read_status
from .run import run_job
from .samples import STEP_FILE

REPLAYS = "replay"
"""Folder in the job's work directory for what is run again."""
EXIT_STOPPED = 128 + signal.SIGINT


def replay(
    job: StoredJob = None,
    *,
    step: Annotated[int, typer.Option(min=1, help="The step to run again.")],
    file: Annotated[
        Path | None,
        typer.Option(
            help="The job's file, if its work directory is not here; paths in it start at its folder."
        ),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a step again on this machine, and print the first number that differs and the samples behind it.

    Exit code 0: nothing differs, 1: something does.
    """
    storage = find_storage(job)
    spec, folder = _job(storage, file)
    begin = _begin(storage, spec, step)
    place = storage.root.parent / REPLAYS / f"step_{step}"
    shutil.rmtree(place, ignore_errors=True)
    shown: Display = PlainLines() if output is Output.TEXT else _Silent()
    code = run_job(_again(spec, storage, begin), folder, place, _Until(step, shown), Settings())
    if code not in (EXIT_COMPLETE, EXIT_STOPPED):
        raise UserMistake(f"the step could not be run again; what was said is in {WorkDir(place).logs}")
    found = first_difference(
        _told(storage, begin, step), _told(Directory(WorkDir(place).storage), begin, step)
    )
    _report(found, begin, step, _caveat(place), output)
    raise typer.Exit(1 if found else 0)


def _job(storage: Directory, file: Path | None) -> tuple[RLJob, Path]:
    """The job, and the folder that relative paths in it start at. Raises `UserMistake`."""
    if file is not None:
        return load_job(file), file.resolve().parent
    runs = sorted(
        (storage.root.parent / "config").glob(f"*/{RUN_FILE}"), key=lambda path: path.stat().st_mtime
    )
    if not runs:
        raise UserMistake(f"{storage.root.parent} does not say what job it was: name its file with --file")
    run = Run.model_validate_json(runs[-1].read_text())
    return RLJob(metadata=Metadata(name=run.name), spec=run.spec), Path.cwd()


def _begin(storage: Directory, job: RLJob, step: int) -> int:
    """The checkpoint to replay from; 0 for the model itself. Raises `UserMistake`."""
    begin = max((one for one in storage.steps() if one < step), default=0)
    if begin == 0 and job.spec.initial_checkpoint is not None:
        raise UserMistake(
            f"no checkpoint before step {step} is kept in {storage.checkpoints}, and the job did not begin with its "
            "model: name a later step, or keep more by checkpoint.keepLatest"
        )
    return begin


def _again(job: RLJob, storage: Directory, begin: int) -> RLJob:
    """The same job from that checkpoint on, with its random states; from its own beginning if there is none."""
    initial = InitialCheckpoint(path=str(storage.checkpoint(begin).resolve())) if begin else None
    checkpoint = job.spec.checkpoint.model_copy(update={"load_rng": True if begin else None})
    changes = {"initial_checkpoint": initial, "checkpoint": checkpoint, "suspend": False}
    return job.model_copy(update={"spec": job.spec.model_copy(update=changes)})


class _Until:
    """Shows a run, and stops it as Ctrl-C does once the step is done."""

    def __init__(self, step: int, shown: Display) -> None:
        self._step, self._shown, self._stopped = step, shown, False

    def open(self) -> None:
        self._shown.open()

    def show(self, job: RLJob, done: Pass) -> None:
        self._shown.show(job, done)
        if done.status.progress.step >= self._step and not self._stopped:
            self._stopped = True
            os.kill(os.getpid(), signal.SIGINT)

    def close(self) -> None:
        self._shown.close()

    def say(self, sentence: str) -> None:
        """Its end is told by the comparison."""


class _Silent(JsonLines):
    """For programs: the comparison is all they read."""

    def show(self, job: RLJob, done: Pass) -> None:
        pass


def _told(storage: Directory, begin: int, step: int) -> tuple[Samples, Curves]:
    """Samples and curves of the steps after `begin`, up to `step`."""
    files = {
        int(match[1]): path for path in storage.samples.iterdir() if (match := STEP_FILE.fullmatch(path.name))
    }
    samples = {
        number: [SampleRecord.model_validate_json(line) for line in path.read_text().splitlines()]
        for number, path in files.items()
        if begin < number <= step
    }
    curves = {
        name: {n: v for n, v in curve.items() if begin < n <= step}
        for name, curve in _curves(storage).items()
    }
    return samples, curves


def _curves(storage: Directory) -> Curves:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(storage.tensorboard))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in names}


def _caveat(place: Path) -> str:
    """What keeps the replay itself from being exact; empty if nothing does."""
    told = condition(read_status(WorkDir(place)), ConditionType.RESUME_EXACT)
    return told.message if told is not None and told.status == "False" else ""


def _report(found: Difference | None, begin: int, step: int, caveat: str, output: Output) -> None:
    if output is Output.JSON:
        difference = _plain(found) if found else None
        told = {"step": step, "fromStep": begin, "inexact": caveat, "difference": difference}
        typer.echo(json.dumps(told))
        return
    if caveat:
        typer.echo(f"The replay itself is not exact: {caveat}")
    typer.echo(_sentence(found, begin, step))
    for when, sample in zip(("was", "now"), found.samples if found else (), strict=False):
        typer.echo(f"  {when}: {sample.prompt!r} -> {sample.text!r}  reward {sample.reward:g}")


def _plain(found: Difference) -> dict[str, object]:
    samples = [sample.model_dump(by_alias=True) for sample in found.samples]
    return asdict(found) | {"samples": samples}


def _sentence(found: Difference | None, begin: int, step: int) -> str:
    if found is None:
        steps = f"Steps {begin + 1} to {step}" if begin + 1 < step else f"Step {step}"
        return f"{steps} came out the same, bit for bit."
    more = "" if found.samples else f"; what was drawn is the same, see `rljob samples --step {found.step}`"
    return f"Step {found.step} differs: {found.what} was {found.was} and is {found.now}{more}."
