"""`rljob replay JOB --step N`: do a step again from the checkpoint before it, and say where it parts from what was.

By default training gets the samples of then, and what is looked at is what was computed from them: no server is needed,
and it is told apart what was drawn and what became of it. `--draw` asks servers anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rljob_api.checkpoint import InitialCheckpoint
from rljob_api.exactness import lasting_doubts
from rljob_api.failure import FailurePolicy
from rljob_api.job import Metadata, RLJob
from rljob_api.progress import EXIT_COMPLETE
from rljob_api.run import RUN_FILE, Replay, Run
from rljob_api.samples import SampleRecord
from rljob_api.status import ConditionType, Exactness
from rljob_operator.cluster.workdir import WorkDir
from rljob_operator.reconcile import Pass
from rljob_operator.settings import Settings
from rljob_operator.status_reading import condition
from rljob_trainer.checkpoint.directory import Directory
from rljob_trainer.checkpoint.verify import verify

from .difference import Difference, first_difference
from .display import Display, JsonLines, PlainLines
from .errors import UserMistake
from .load import load_job
from .output import Output, OutputOption
from .places import StoredJob, find_storage, read_status
from .recorded import (
    doubts_of_the_first_steps,
    recorded,
    refuse_what_cannot_be_fed,
    refuse_what_never_ran,
    that_ran,
)
from .run import run_job

REPLAYS = "replay"
"""Folder in the job's work directory for what is done again."""
SIGNALLED = 128
"""From here on an exit code says that a signal ended it."""


def replay(
    job: StoredJob = None,
    *,
    step: Annotated[int, typer.Option(min=1, help="The step to do again.")],
    draw: Annotated[
        bool,
        typer.Option("--draw", help="Draw the samples anew, by vLLM, and compare them too; slower."),
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            help="The job's file, if its work directory is not here; paths in it start at its folder."
        ),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Do a step again on this machine, from the samples that were kept of it; print the first number that differs and
    the samples behind it.

    Exit code 0: nothing differs, 1: something does.
    """
    storage = find_storage(job)
    spec, folder = _job(storage, file)
    refuse_what_never_ran(storage, step)
    begin = _begin(storage, spec, step)
    steps = range(begin + 1, step + 1)
    if not draw:
        refuse_what_cannot_be_fed(storage, steps)
    place = storage.root.parent / REPLAYS / f"step_{step}"
    steps_again = Replay(last_step=step, samples="" if draw else str(storage.samples.resolve()))
    shown: Display = _Plain() if output is Output.TEXT else _Silent()
    _run(again(spec, storage, begin), folder, place, shown, steps_again)
    done = Directory(WorkDir(place).storage)
    found = first_difference(recorded(storage, steps), recorded(done, steps))
    lasting = lasting_doubts(spec.spec, drawn=draw)
    caveat = _caveat(place) if begin else doubts_of_the_first_steps(storage, done, lasting)
    _report(found, steps, caveat, output)
    raise typer.Exit(1 if found else 0)


def _job(storage: Directory, file: Path | None) -> tuple[RLJob, Path]:
    """The job, and the folder that relative paths in it start at. Raises `UserMistake`."""
    if file is not None:
        job, name = load_job(file), storage.owner.name
        if job.metadata.name != name:
            raise UserMistake(f"{file} is of the job {job.metadata.name}, and {storage.root} of {name}")
        return job, file.resolve().parent
    work_dir = WorkDir(storage.root.parent)
    files = sorted(work_dir.config.glob(f"*/{RUN_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not files:
        raise UserMistake(f"{work_dir.path} does not say what job it was: name its file with --file")
    run = that_ran(storage, (Run.model_validate_json(path.read_text()) for path in files))
    return RLJob(metadata=Metadata(name=run.name), spec=run.spec), work_dir.job_folder()


def _begin(storage: Directory, job: RLJob, step: int) -> int:
    """The newest whole checkpoint before it; 0 for the model itself. As a resume does, this names those that it passes
    over, and leaves them where they are. Raises `UserMistake`."""
    for begin in reversed([one for one in storage.steps() if one < step]):
        problems = verify(storage.checkpoint(begin))
        if not problems:
            return begin
        typer.echo(f"The checkpoint of step {begin} was passed over: {problems[0]}.", err=True)
    if job.spec.initial_checkpoint is not None:
        raise UserMistake(
            f"no whole checkpoint before step {step} is kept in {storage.checkpoints}, and the job did not begin with "
            "its model: name a later step, or keep more by checkpoint.keepLatest"
        )
    return 0


def again(job: RLJob, storage: Directory, begin: int) -> RLJob:
    """The same job from that checkpoint on, with its random states; from its own beginning if there is none.

    It saves nothing, tells no tracker, and a failure ends it: none of that changes a number.
    """
    spec = job.spec
    initial = InitialCheckpoint(path=str(storage.checkpoint(begin).resolve())) if begin else None
    saves_nothing = {"enabled": False, "async_save": False, "keep_top_k": None}
    rng = {"load_rng": True if begin else None}
    changes = {
        "initial_checkpoint": initial,
        "checkpoint": spec.checkpoint.model_copy(update=saves_nothing | rng),
        "resume": spec.resume.model_copy(update={"exactness": Exactness.BEST_EFFORT}),
        "logging": spec.logging.model_copy(update={"wandb": None}),
        "failure_policy": FailurePolicy(max_restarts=0),
        "suspend": False,
    }
    return job.model_copy(update={"spec": spec.model_copy(update=changes)})


def _run(job: RLJob, folder: Path, place: Path, shown: Display, again: Replay) -> None:
    """Raises `UserMistake` unless it came to its end."""
    code = run_job(job, folder, place, shown, Settings(), replay=again)
    if code >= SIGNALLED:
        raise typer.Exit(code)
    if code != EXIT_COMPLETE:
        told = read_status(WorkDir(place))
        why = f": {told.message}" if told and told.message else ""
        raise UserMistake(f"the step could not be done again{why}\nWhat was said is in {WorkDir(place).logs}")


class _Plain(PlainLines):
    """Its end is told by the comparison."""

    def say(self, sentence: str) -> None:
        pass


class _Silent(JsonLines):
    """For programs: the comparison is all they read."""

    def show(self, job: RLJob, done: Pass) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass


def _caveat(place: Path) -> str:
    """What the trainer said to keep the replay from being exact; empty if nothing does."""
    told = condition(read_status(WorkDir(place)), ConditionType.RESUME_EXACT)
    return told.message if told is not None and told.status == "False" else ""


def _report(found: Difference | None, steps: range, caveat: str, output: Output) -> None:
    if output is Output.JSON:
        difference = _plain(found) if found else None
        told = {"step": steps[-1], "fromStep": steps[0] - 1, "inexact": caveat, "difference": difference}
        typer.echo(json.dumps(told))
        return
    if caveat:
        typer.echo(f"The replay itself is not exact: {caveat}")
    typer.echo(_sentence(found, steps))
    for when, sample in zip(("was", "now"), found.samples if found else (), strict=False):
        typer.echo(f"  {when}: {_line(sample)}")
    for sample in found.behind if found else ():
        typer.echo(f"  from: {_line(sample)}, advantage {sample.advantage:g}")


def _line(sample: SampleRecord) -> str:
    return f"{sample.prompt!r} -> {sample.text!r}  reward {sample.reward:g}"


def _plain(found: Difference) -> dict[str, object]:
    def told(samples: Iterable[SampleRecord]) -> list[dict[str, object]]:
        return [sample.model_dump(by_alias=True, exclude={"drawn"}) for sample in samples]

    return asdict(found) | {"samples": told(found.samples), "behind": told(found.behind)}


def _sentence(found: Difference | None, steps: range) -> str:
    if found is None:
        which = f"Steps {steps[0]} to {steps[-1]}" if len(steps) > 1 else f"Step {steps[0]}"
        return f"{which} came out the same, bit for bit."
    same = f"; samples and rewards are the same, see `rljob samples --step {found.step}`"
    more = same if found.behind else ""
    return f"Step {found.step} differs: {found.what} was {found.was} and is {found.now}{more}."
