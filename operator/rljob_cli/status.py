"""`rljob status`: how a local job is doing, from the status that `rljob run` keeps."""

from __future__ import annotations

import time

from rich.console import Console

from rljob_api.status import Status
from rljob_operator.cluster.workdir import WorkDir

from .errors import UserMistake
from .output import Output, OutputOption
from .panel import panel
from .places import Job, find_work_dir


def status(job: Job = None, output: OutputOption = Output.TEXT) -> None:
    """Show how a job is doing; in JSON the RLJob's status as it is."""
    work_dir = find_work_dir(job)
    known = _read(work_dir)
    if known is None:
        raise UserMistake(f"{work_dir.path} has no status yet")
    if output is Output.JSON:
        print(known.model_dump_json(by_alias=True, indent=2))
    else:
        Console().print(panel(work_dir.path.name, known, None, time.time()))


def _read(work_dir: WorkDir) -> Status | None:
    """Raises `UserMistake` for one that `rljob run` did not write so."""
    try:
        return work_dir.read_status()
    except ValueError as error:
        raise UserMistake(
            f"{work_dir.path / 'status.json'} is damaged; remove it, and the next `rljob run` writes it anew"
        ) from error
