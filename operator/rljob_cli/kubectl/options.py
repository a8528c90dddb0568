"""What every command on a cluster takes: a job's name, a namespace, a context; and how a shell completes the name."""

from __future__ import annotations

import re
import threading
from typing import Annotated

import typer

from .jobs import Jobs

JOB_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
"""What the API server takes as a name, and more than can be one of a job."""
COMPLETION_SECONDS = 2.0
"""Who pressed the tabulator waits no longer."""


def known_jobs(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the jobs in the cluster and namespace that the line names so far; none where nobody answers in time."""
    found: list[str] = []

    def ask() -> None:
        try:
            found.extend(Jobs(context.params.get("namespace"), context.params.get("context")).names())
        except Exception:  # a completion has no place to tell what is wrong; the command itself will tell
            return

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(COMPLETION_SECONDS)
    return [name for name in found if name.startswith(incomplete)]


def _one_job(name: str) -> str:
    """An empty name would mean all jobs of the namespace."""
    if not re.fullmatch(JOB_NAME, name):
        raise typer.BadParameter(f"{name!r} cannot be the name of a job; see `kubectl get rljobs -A`")
    return name


Name = Annotated[
    str,
    typer.Argument(help="Name of the job.", show_default=False, autocompletion=known_jobs, callback=_one_job),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="By default that of the kubeconfig's context.")
]
Context = Annotated[
    str | None, typer.Option("--context", help="Context of the kubeconfig; by default its current one.")
]
