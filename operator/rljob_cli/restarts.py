"""The trainers' last restart in words: where, why, and what the attempt after it went on from. `panel.py` shows it."""

from __future__ import annotations

from rljob_api.base import many, shortened
from rljob_api.failure import RoleName
from rljob_api.reasons import Reason
from rljob_api.status import AttemptStatus, ConditionType, Exactness, Status
from rljob_operator.happenings import WHY_ANOTHER
from rljob_operator.status_reading import condition

EXACTNESS = {
    Exactness.EXACT: "exactly",
    Exactness.LOSSLESS: "not bit for bit",
    Exactness.BEST_EFFORT: "as well as could be",
}
FAILED = (Reason.POD_FAILED, Reason.POD_FAILED_IGNORED, Reason.STALLED, Reason.VOLUME_UNUSABLE)
"""Reasons of an attempt whose cause is listed among the failures."""
LONGEST_REASON = 240
"""Characters: all of it is in the status."""


def restart_line(status: Status) -> str:
    """Where and why the trainers were restarted last; empty in a job's first attempt."""
    attempt = status.attempt
    if attempt is None or attempt.reason in ("", Reason.FIRST_ATTEMPT):
        return ""
    known = attempt.from_step is not None and attempt.lost_steps is not None
    where = f"after step {(attempt.from_step or 0) + (attempt.lost_steps or 0)}: " if known else ""
    return f"{where}{_why(status, attempt)}"


def _why(status: Status, attempt: AttemptStatus) -> str:
    """What failed in the attempt before, else why it ended."""
    failed = [one for one in status.failures if one.attempt == attempt.number - 1]
    trainers = [one for one in failed if one.role == RoleName.TRAINER]
    if attempt.reason not in FAILED or not trainers:
        return WHY_ANOTHER.get(attempt.reason, attempt.reason)
    first = trainers[0]
    code = "" if first.exit_code is None else f" with exit code {first.exit_code}"
    said = f": {first.message}" if first.message else ""
    return shortened(" ".join(f"{first.who} ended{code}{said}".split()), LONGEST_REASON)


def resume_line(status: Status) -> str:
    """What the present attempt went on from, and why not exactly; empty for a job's first."""
    attempt = status.attempt
    if attempt is None or attempt.from_step is None or attempt.exactness is None:
        return ""
    lost = attempt.lost_steps
    lost_steps = f", {many(lost, 'step')} lost" if lost else ""
    told = condition(status, ConditionType.RESUME_EXACT)
    inexact = told is not None and told.status == "False" and told.reason == attempt.exactness.value
    if told and inexact and told.message:
        return f"attempt {attempt.number}{lost_steps}: {shortened(told.message, LONGEST_REASON)}"
    return (
        f"attempt {attempt.number} from step {attempt.from_step}, {EXACTNESS[attempt.exactness]}{lost_steps}"
    )
