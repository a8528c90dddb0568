"""`rljob status`: how a local job is doing, from the status that `rljob run` keeps."""

from __future__ import annotations

import time

from .errors import UserMistake
from .output import Output, OutputOption, console
from .panel import panel
from .places import Job, find_work_dir, read_status


def status(job: Job = None, output: OutputOption = Output.TEXT) -> None:
    """Show how a job is doing; in JSON the RLJob's status as it is."""
    work_dir = find_work_dir(job)
    known = read_status(work_dir)
    if known is None:
        raise UserMistake(
            f"{work_dir.path} has no status yet: `rljob run` with the job's file writes it at once"
        )
    if output is Output.JSON:
        print(known.model_dump_json(by_alias=True, indent=2))
    else:
        console().print(panel(work_dir.path.name, known, None, time.time()))
