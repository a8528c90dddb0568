"""`kubectl rljob events JOB`: what happened to a job and its pods, in order."""

from __future__ import annotations

import json
import time

from rich.table import Table
from rich.text import Text

from rljob_api.base import Manifest
from rljob_operator import times

from ..output import Output, OutputOption, show
from ..words import duration
from .jobs import Jobs, event_time
from .options import Context, Name, Namespace


def events(
    job: Name,
    output: OutputOption = Output.TEXT,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show what happened to a job and its pods."""
    jobs = Jobs(namespace, context)
    found = jobs.events(job)
    if not found:
        jobs.get(job)  # those of a job that is gone are shown, but one that never was is a mistake
    if output is Output.JSON:
        for event in found:
            event["metadata"].pop("managedFields", None)  # kubectl does not show them either
        print(json.dumps(found, indent=2))
    else:
        show(table(found, time.time()) if found else f"no events of {job} are kept any more")


def table(found: list[Manifest], now: float) -> Table:
    rows = Table("AGE", "TYPE", "REASON", "OBJECT", "MESSAGE", box=None, pad_edge=False)
    for event in found:
        seen = event_time(event).partition(".")[0] + "Z"
        target = f"{event['involvedObject']['kind'].lower()}/{event['involvedObject']['name']}"
        age = duration(max(0.0, now - times.to_seconds(seen)))
        said = (age, event.get("type"), event.get("reason"), target, (event.get("message") or "").strip())
        rows.add_row(*(Text(word or "") for word in said))  # Text: a message may look like markup
    return rows
