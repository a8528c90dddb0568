"""`rljob run FILE`: the operator's loop on this machine, with what it sees on the screen."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.progress import EXIT_COMPLETE, EXIT_FAILED, EXIT_UNMET
from rljob_api.run import Replay
from rljob_operator.cluster.addresses import TooManyPodsError
from rljob_operator.cluster.last_words import tail
from rljob_operator.cluster.workdir import UNUSABLE, WorkDir, WorkDirError
from rljob_operator.decide import Goal
from rljob_operator.observed import Pod, PodPhase
from rljob_operator.reconcile import Pass
from rljob_operator.run_local import LocalRun
from rljob_operator.settings import Settings

from .display import Display, JsonLines, LiveDisplay, PlainLines
from .errors import UserMistake
from .load import load_job
from .output import Output, OutputOption
from .places import RUNS, refuse_absent_initial

EXPORT = "export"


def run(
    file: Annotated[Path, typer.Argument(help="The job file.")],
    work_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where checkpoints, logs and state live; the same one goes on. By default runs/<job name>."
        ),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a job on this machine; Ctrl-C saves and stops, the same command goes on.

    In JSON, the RLJob's status as a line whenever it changed.
    """
    job = load_job(file)
    place = work_dir or RUNS / job.metadata.name
    refuse_absent_initial(job, place)
    code = run_job(job, file.resolve().parent, place, display(output), Settings())
    raise typer.Exit(code)


def run_job(
    job: RLJob, cwd: Path, place: Path, shown: Display, settings: Settings, *, replay: Replay | None = None
) -> int:
    """The job to its end, or to that of a replay, in which nothing is left of one before; the exit code of `rljob run`.
    Raises `UserMistake`."""
    work_dir = WorkDir(place)
    try:
        work_dir.open()
        if replay:
            work_dir.clear()
        cache = cache_folder()
        local = LocalRun(
            job,
            work_dir,
            cwd=cwd,
            cache=cache,
            settings=settings,
            show=shown.show,
            say=shown.say,
            replay=replay,
        )
        shown.open()
        try:
            last = local.run()
        finally:
            shown.close()
    except (WorkDirError, TooManyPodsError) as error:
        raise UserMistake(str(error)) from error
    except OSError as error:
        if error.errno in UNUSABLE:
            raise UserMistake(str(work_dir.unusable(error))) from error
        if work_dir.is_removed():
            raise UserMistake(
                f"the work directory {work_dir.path}, or a part of it, was removed while the job ran,"
                " which was stopped; put it back, and the same command goes on from its checkpoints;"
                " without it, from the beginning"
            ) from error
        raise
    finally:
        work_dir.close()
    shown.say(closing_words(job, last, work_dir, local.signals))
    return exit_code(last, local.signals)


def display(output: Output) -> Display:
    if output is Output.JSON:
        return JsonLines()
    return LiveDisplay() if sys.stdout.isatty() else PlainLines()


def cache_folder() -> Path:
    """Shared by all local jobs of the user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rljob"


def exit_code(last: Pass, signals: list[int]) -> int:
    """0 Complete, or Suspended by the file itself; 1 Failed; 3 it cannot go on as `resume` and `checkpoint.loadRng`
    ask; 128 + signal when stopped by one."""
    match last.decision.goal:
        case Goal.COMPLETE:
            return EXIT_COMPLETE
        case Goal.FAIL:
            return EXIT_FAILED
        case Goal.WAIT if not signals:
            return EXIT_UNMET
        case _:
            return 128 + signals[-1] if signals else EXIT_COMPLETE


def closing_words(job: RLJob, last: Pass, work_dir: WorkDir, signals: list[int]) -> str:
    match last.decision.goal:
        case Goal.COMPLETE:
            return _complete(job, last, work_dir)
        case Goal.FAIL:
            return _failed(last, work_dir)
        case _ if len(signals) > 1:
            return _stopped(last, f"killed by a second {signal.Signals(signals[-1]).name}, without saving")
        case _ if signals:
            return _stopped(last, f"stopped by {signal.Signals(signals[-1]).name}")
        case Goal.SUSPENDED:
            return "Nothing runs because spec.suspend is true; set it to false, and run the same command."
        case _:
            return last.status.message


def _complete(job: RLJob, last: Pass, work_dir: WorkDir) -> str:
    export = work_dir.storage / EXPORT
    where = (
        f"The trained model is in {export}." if export.is_dir() else f"Everything is in {work_dir.storage}."
    )
    return f"{job.metadata.name} is complete: {last.status.progress.display} steps. {where}"


def _stopped(last: Pass, how: str) -> str:
    latest = last.status.checkpoint.latest
    saved = f"the newest checkpoint is step {latest.step}" if latest else "no checkpoint was saved yet"
    return f"{how[0].upper()}{how[1:]}; {saved}. Run the same command to go on."


def _failed(last: Pass, work_dir: WorkDir) -> str:
    """The sentence of the status, and the end of the log of whoever failed first."""
    said = f"Failed: {last.status.message}"
    culprit = first_failure(last.observed.pods)
    log = work_dir.logs / f"{_program(culprit)}.log" if culprit else _log_of_server(last, work_dir)
    if log is None or not log.exists():
        return said
    return f"{tail(log)}\n\n^ the end of {log}\n{said}"


def _log_of_server(last: Pass, work_dir: WorkDir) -> Path | None:
    """Of the one that failed the job: servers are gone by its end."""
    failed = next(
        (one for one in reversed(last.status.failures) if f"{one.who} " in last.status.message), None
    )
    if failed is None or failed.role != RoleName.ROLLOUT:
        return None
    logs = work_dir.logs.glob(f"*-{failed.role}-{failed.rank}-*.log")
    return max(logs, key=lambda path: path.stat().st_mtime, default=None)


def _program(pod: Pod) -> str:
    """What its log is called after: the pod, or its init container that failed."""
    return f"{pod.name}.{pod.ended_in}" if pod.ended_in else pod.name


def first_failure(pods: tuple[Pod, ...]) -> Pod | None:
    """Of the pods that failed by themselves in the last attempt, the one that did so first."""
    last = max((pod.attempt for pod in pods), default=0)
    mine = [pod for pod in pods if pod.attempt == last or pod.role is RoleName.ROLLOUT]
    failed = [pod for pod in mine if pod.phase is PodPhase.FAILED and not pod.terminating]
    return min(failed, key=lambda pod: pod.finished_at or 0.0, default=None)
