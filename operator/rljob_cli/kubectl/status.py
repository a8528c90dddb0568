"""`kubectl rljob status JOB`: one screen."""

from __future__ import annotations

import json
import time

from pydantic import ValidationError

from rljob_api.base import Manifest
from rljob_api.job import JobSpec
from rljob_api.status import Status

from ..output import Output, OutputOption, show
from ..panel import panel
from .fewer_nodes import hint
from .jobs import Jobs
from .known import known
from .options import Context, Name, Namespace
from .unattended import unattended


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
        told, caveat = known(found)
        now = time.time()
        hints = (_hint(found, told), unattended(found, now), caveat)
        show(panel(job, told, None, now, [hint for hint in hints if hint]))


def _hint(job: Manifest, status: Status) -> str:
    """What could be done if there is no room; nothing for a spec of another version of the API."""
    try:
        return hint(JobSpec.parse(job["spec"]), status)
    except ValidationError:
        return ""
