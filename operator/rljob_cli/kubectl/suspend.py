"""`kubectl rljob suspend | resume JOB`: the field `spec.suspend`, by name, and what comes of it."""

from __future__ import annotations

import time

from rljob_api.base import Manifest
from rljob_api.status import ConditionType

from ..errors import UserMistake
from .going_on import initial_checkpoint
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
    stops = _what_stops(found["spec"].get("checkpoint", {}), again)
    print(_nobody(found, "true now") or f"{job}: {stops}")


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


def _what_stops(checkpoint: Manifest, again: str) -> str:
    if not checkpoint.get("enabled", True):
        return f"what runs stops unsaved, as checkpoint.enabled is false; `{again}` begins anew"
    if not checkpoint.get("onPreemption", {}).get("save", True):
        return (
            "what runs stops without saving, as checkpoint.onPreemption.save is false; "
            f"`{again}` goes on from the newest checkpoint"
        )
    return f"what runs saves and stops; `{again}` goes on from there"


def _way_on(job: Manifest) -> str:
    initial = initial_checkpoint(job)
    if not initial:
        return "It has no checkpoint: mend the cause, and submit it under another name"
    return f"To train on from its newest checkpoint, submit a job under another name with `{initial}`"
