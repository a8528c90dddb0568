"""`kubectl rljob submit FILE`: create the job, and with --wait stay until it is over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..document import read_document
from ..left_behind import left_behind
from ..load import parse_job
from .jobs import Jobs
from .options import Context, Namespace
from .wait import wait_until_over


def submit(
    file: Annotated[Path, typer.Argument(help="The job file.", show_default=False)],
    wait: Annotated[
        bool, typer.Option("--wait", help="Show progress until it is over; exit codes as of wait.")
    ] = False,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Create a job in the cluster."""
    document = read_document(file)
    job = parse_job(document)  # every mistake with its line, before the API server sees it
    jobs = Jobs(namespace or document.data["metadata"].get("namespace"), context)
    jobs.create(document.data)
    name = job.metadata.name
    for lacking in left_behind(document, job.spec):
        print(f"Warning: {lacking}", file=sys.stderr, flush=True)
    print(f"rljob.rljob.io/{name} created in namespace {jobs.namespace}", flush=True)
    if wait:
        raise typer.Exit(wait_until_over(jobs, name))
    print(f"Watch it: {jobs.command(f'status {name}')}")
