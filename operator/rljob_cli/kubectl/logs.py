"""`kubectl rljob logs JOB`: what all pods of a job said, each line after its pod's name.

An init container's lines carry its name as well.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rljob_api.failure import RoleName

from ..errors import UserMistake
from .follow import follow as follow_until_over
from .jobs import Jobs
from .log_stream import Excerpt
from .options import Context, Name, Namespace
from .pod_logs import Log, started
from .wait import verdict


def logs(
    job: Name,
    *,
    role: Annotated[RoleName | None, typer.Option(help="Only pods of this role.", show_default=False)] = None,
    pod: Annotated[str, typer.Option(help="Only pods whose name contains this.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
    tail: Annotated[int, typer.Option(help="So many last lines of each pod.", min=0)] = 20,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show what a job's pods said."""
    jobs = Jobs(namespace, context)
    ended = verdict(jobs.get(job)) is not None
    found = started(jobs.pods(job), role, pod)
    if not found and (ended or not follow):
        raise UserMistake(f"{_none(job, role, pod)}; see `{jobs.command(f'status {job}')}`")
    if not follow:
        for log in found:
            _print_log(jobs, log, tail)
        return
    if not found:
        print(f"{_none(job, role, pod)} yet: waiting for one", file=sys.stderr, flush=True)
    follow_until_over(
        jobs,
        job,
        logs=lambda: started(jobs.pods(job), role, pod),
        over=lambda: verdict(jobs.get(job)) is not None,
        tail=tail,
    )


def _none(job: str, role: RoleName | None, pod: str) -> str:
    kind = f"{role} pod" if role else "pod"
    return f"no {kind} of {job}{f' like `{pod}`' if pod else ''} has started"


def _print_log(jobs: Jobs, log: Log, tail: int) -> None:
    try:
        for line in jobs.log(log.pod, log.container, Excerpt(tail=tail)):
            print(f"[{log.label}] {line}")
    except UserMistake as gone:  # deleted between the look and the read
        print(f"[{log.label}] {gone}", file=sys.stderr)
