"""`kubectl rljob wait JOB`: until it is Complete (exit code 0) or Failed (1); a line whenever its text changed."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from rljob_api.base import Manifest
from rljob_api.status import ConditionType

from ..errors import UserMistake
from ..words import summary
from .jobs import FOR_EVER, Jobs
from .known import known
from .options import Context, Name, Namespace
from .patience import PATIENCE_SECONDS, Patience
from .refusals import Absent
from .unattended import PATIENCE_SECONDS as TAKEN_UP_SECONDS
from .unattended import unattended

EXIT_COMPLETE, EXIT_FAILED, EXIT_TIMEOUT = 0, 1, 3
WATCH_SECONDS = 300.0
"""Proxies cut longer silences."""
ROUND_SECONDS = 1.0
"""Pause between two watches: something may refuse or cut each at once."""
QUIET_SECONDS = 10.0
"""A line at most this often while only numbers move."""


def wait(
    job: Name,
    timeout: Annotated[
        float, typer.Option(help="Seconds; afterwards exit code 3.", min=1, show_default="for ever")
    ] = FOR_EVER,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Wait until a job is Complete or Failed.

    Exit code 0: Complete. 1: Failed. 2: there is no such job any more, or no answer. 3: --timeout is over. 130: Ctrl-C.
    """
    jobs = Jobs(namespace, context)
    jobs.get(job)  # what cannot be reached at all is told at once
    raise typer.Exit(wait_until_over(jobs, job, timeout))


def wait_until_over(
    jobs: Jobs, name: str, timeout: float = FOR_EVER, patience_seconds: float = PATIENCE_SECONDS
) -> int:
    """The exit code. Prints progress to the standard error, so that the standard output stays free.

    Raises `UserMistake` if the job is deleted, or the API server refuses for longer than `patience_seconds`.
    """
    try:
        return _wait(jobs, name, timeout, Patience(patience_seconds))
    except KeyboardInterrupt:
        print(f"{name} goes on; `{jobs.command(f'wait {name}')}` waits again", file=sys.stderr)
        raise


def _wait(jobs: Jobs, name: str, timeout: float, patience: Patience) -> int:
    deadline = time.monotonic() + timeout
    shown = _Shown(name)
    while (left := deadline - time.monotonic()) > 0:
        pause = ROUND_SECONDS
        try:
            for job in jobs.changes(name, min(left, shown.watch_seconds)):
                patience.restore()
                shown.show(job)
                if (code := verdict(job)) is not None:
                    return code
        except Absent as gone:
            raise UserMistake(f"`{name}` was deleted before it was over") from gone
        except UserMistake as trouble:
            pause = patience.spend(trouble)
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
    print(f"{name} is not over after {timeout:.0f} s", file=sys.stderr)
    return EXIT_TIMEOUT


def verdict(job: Manifest) -> int | None:
    """Exit code of a job that is over, None while it is not."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["status"] == "True" and condition["type"] == ConditionType.COMPLETE:
            return EXIT_COMPLETE
        if condition["status"] == "True" and condition["type"] == ConditionType.FAILED:
            return EXIT_FAILED
    return None


class _Shown:
    """Prints a change of phase or message at once, numbers now and then, and what is missing once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._state, self._line = ("", ""), ""
        self._at = 0.0
        self._warned: set[str] = set()
        self.watch_seconds = TAKEN_UP_SECONDS
        """A job that nobody takes up never changes: it is looked at again when there is that to say."""

    def show(self, job: Manifest) -> None:
        status, caveat = known(job)
        state, now = (str(status.phase), status.message), time.monotonic()
        self._warn("caveat", caveat)
        line = summary(self._name, status)
        if line != self._line and (state != self._state or now - self._at >= QUIET_SECONDS):
            print(line, file=sys.stderr, flush=True)
            self._state, self._line, self._at = state, line, now
        nobody = unattended(job, time.time())
        self._warn("nobody", nobody and f"{self._name}: {nobody}")
        if nobody or job.get("status"):
            self.watch_seconds = WATCH_SECONDS

    def _warn(self, of: str, sentence: str) -> None:
        """Once of each, also if its words change."""
        if sentence and of not in self._warned:
            print(sentence, file=sys.stderr, flush=True)
            self._warned.add(of)
