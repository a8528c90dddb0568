"""`kubectl rljob suspend | resume JOB`: the field `spec.suspend`, by name, and what comes of it."""

from __future__ import annotations

import time

from rljob_api.base import Manifest
from rljob_api.status import ConditionType

from ..errors import UserMistake
from .going_on import SAVES, initial_checkpoint, what_stops
from .jobs import Jobs
from .options import Context, Name, Namespace
from .unattended import unattended

OVER = (
    ConditionType.COMPLETE,
    ConditionType.SUCCESS_CRITERIA_MET,
    ConditionType.FAILED,
    ConditionType.FAILURE_TARGET,
)
"""What is, or is about to be, over stays so."""


def suspend(job: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Save, stop the pods and keep the storage."""
    jobs = Jobs(namespace, context)
    found = jobs.get(job)
    if ended := end_of(found):
        raise UserMistake(f"{job} is {ended}: there is nothing to suspend")
    again = jobs.command(f"resume {job}")
    if found["spec"].get("suspend"):
        print(_nobody(found, "already true") or f"{job} is suspended already; `{again}` goes on")
        return
    jobs.merge(job, {"spec": {"suspend": True}})
    print(_nobody(found, "true now") or f"{job}: {_what_stops(found, again)}")


def resume(job: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Go on from the newest verified checkpoint."""
    jobs = Jobs(namespace, context)
    found = jobs.get(job)
    if ended := end_of(found):
        raise UserMistake(f"{job} is {ended}, and a job that is over does not go on. {_way_on(found)}")
    look = jobs.command(f"status {job}")
    if not found["spec"].get("suspend"):
        print(f"{job} is not suspended, nothing was changed; see `{look}`")
        return
    jobs.merge(job, {"spec": {"suspend": False}})
    print(_nobody(found, "false now") or f"{job}: goes on; see `{look}`")


def end_of(job: Manifest) -> str:
    """`complete`, or `failed` with the reason's sentence; empty for a job that is not over."""
    conditions = job.get("status", {}).get("conditions", [])
    true = {one["type"]: one.get("message", "") for one in conditions if one["status"] == "True"}
    ended = next((kind for kind in OVER if kind in true), None)
    if ended in (ConditionType.FAILED, ConditionType.FAILURE_TARGET):
        return f"failed ({true[ended].rstrip('.')})" if true[ended] else "failed"
    return "complete" if ended else ""


def _nobody(job: Manifest, suspend: str) -> str:
    """What is said where no operator makes anything of the field; empty where one does."""
    why = unattended(job, time.time())
    return why and f"{job['metadata']['name']}: spec.suspend is {suspend}. {why}"


def _what_stops(job: Manifest, again: str) -> str:
    stops, kept = what_stops(job), job["spec"].get("checkpoint", {}).get("enabled", True)
    then = "goes on from there" if stops == SAVES else "goes on from the newest checkpoint"
    return f"{stops}; `{again}` {then if kept else 'begins anew'}"


def _way_on(job: Manifest) -> str:
    initial = initial_checkpoint(job)
    if not initial:
        return "It has no checkpoint: mend the cause, and submit it under another name"
    return f"To train on from its newest checkpoint, submit a job under another name with `{initial}`"
