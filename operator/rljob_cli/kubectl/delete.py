"""`kubectl rljob delete JOB`."""

from __future__ import annotations

from typing import Annotated

import typer

from rljob_api.base import Manifest, many
from rljob_operator import names

from ..errors import UserMistake
from .going_on import SAVES, initial_checkpoint, storage, what_stops
from .jobs import Jobs
from .options import Context, Name, Namespace
from .wait import verdict


def delete(
    job: Name,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Delete a job that is not over; it saves as when suspended.")
    ] = False,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Delete a job and its pods; its checkpoints stay unless the job says otherwise."""
    jobs = Jobs(namespace, context)
    found = jobs.get(job)
    running = [pod for pod in jobs.pods(job) if pod["status"].get("phase") in ("Pending", "Running")]
    if running and not yes:
        raise UserMistake(_warning(found, len(running), jobs.command(f"suspend {job}")))
    jobs.delete(job)
    print(f"rljob.rljob.io/{job} deleted; {_what_stays(found)}")


def _warning(job: Manifest, pods: int, suspend: str) -> str:
    """What becomes of the step in hand; whether a save was in time only a job that is still there tells."""
    what = _what_goes(job) or what_stops(job)
    see = f"to see in its status that it did, `{suspend}` first; " if what == SAVES else ""
    return f"{job['metadata']['name']} has {many(pods, 'pod')}: {what}; {see}to delete it now, add --yes"


def _what_goes(job: Manifest) -> str:
    """The claim that is deleted with the job; empty if it stays."""
    claim = _claim(job)
    goes = storage(job).get("retentionPolicy", {}).get("whenDeleted") == "Delete"
    mine = claim == names.claim(job["metadata"]["name"])
    return f"its claim {claim} goes too, as retentionPolicy.whenDeleted says" if mine and goes else ""


def _what_stays(job: Manifest) -> str:
    if gone := _what_goes(job):
        return gone
    claim, initial = _claim(job), initial_checkpoint(job)
    once = "once its pods are gone, " if verdict(job) is None else ""
    if not initial:
        return f"what it wrote stays in the claim {claim}"
    return (
        f"its checkpoints stay in the claim {claim}. A job of the same name does not take them up: to train on from "
        f"them, {once}submit one under another name with `{initial}`"
    )


def _claim(job: Manifest) -> str:
    return names.claim(job["metadata"]["name"], storage(job).get("claimName"))
