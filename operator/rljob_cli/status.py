"""`rljob status`: how a local job is doing, from the status that `rljob run` keeps."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from .errors import UserMistake
from .output import Output
from .places import find_work_dir
from .words import panel


def status(
    job: Annotated[str | None, typer.Argument(help="Name of the job, or its work directory.")] = None,
    output: Annotated[Output, typer.Option(help="json: the RLJob status as it is.")] = Output.TEXT,
) -> None:
    """Show how a job is doing."""
    work_dir = find_work_dir(job)
    known = work_dir.read_status()
    if known is None:
        raise UserMistake(f"{work_dir.path} has no status yet")
    if output is Output.JSON:
        print(known.model_dump_json(by_alias=True, indent=2))
    else:
        Console().print(panel(work_dir.path.name, known, None, time.time()))
