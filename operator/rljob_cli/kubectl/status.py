"""`kubectl rljob status JOB`: one screen."""

from __future__ import annotations

import json
import time

from rich.console import Console

from rljob_api.status import Status

from ..output import Output, OutputOption
from ..words import panel
from .jobs import Jobs
from .options import Context, Name, Namespace


def status(
    job: Name,
    output: OutputOption = Output.TEXT,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show how a job is doing."""
    found = Jobs(namespace, context).get(job)
    if output is Output.JSON:
        print(json.dumps(found.get("status", {}), indent=2))
    else:
        known = Status.model_validate(found.get("status") or {})
        Console().print(panel(job, known, None, time.time()))
