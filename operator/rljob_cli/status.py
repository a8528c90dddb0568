"""`rljob status`: how a local job is doing, from the status that `rljob run` keeps."""

from __future__ import annotations

import time
from typing import TypeVar

from rljob_api.reasons import Reason
from rljob_api.status import ConditionType, Phase, RoleStatus, Status
from rljob_operator.status_reading import condition

from .errors import UserMistake
from .output import Output, OutputOption, show
from .panel import panel
from .places import Job, find_work_dir, read_status
from .words import OVER

T = TypeVar("T", bound=RoleStatus)
NOT_RUNNING = "Not running; the same `rljob run` goes on from the newest checkpoint."


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
        shown = known if work_dir.is_run() else left(known)
        show(panel(work_dir.path.name, shown, None, time.time()))


def left(status: Status) -> Status:
    """What nobody runs, or waits for any more: it was stopped, or killed before it could say so."""
    if status.phase in OVER:
        return status
    kept = status.message if status.phase is Phase.PENDING else ""
    doing = condition(status, ConditionType.PROGRESSING)
    asks = kept and doing is not None and doing.reason == Reason.EXACTNESS_UNMET
    silent = {"phase": "", "detail": "", "estimated_remaining_seconds": None}
    return status.model_copy(
        update={
            "message": kept if asks else f"{kept} {NOT_RUNNING}".lstrip(),
            "progress": status.progress.model_copy(update=silent),
            "trainer": _gone(status.trainer),
            "rollout": _gone(status.rollout),
        }
    )


def _gone(role: T) -> T:
    """None of it is there any more."""
    wanted = role.ready.partition("/")[2]
    return role.model_copy(update={"ready": f"0/{wanted}" if wanted else ""})
