"""`kubectl rljob delete JOB`."""

from __future__ import annotations

from typing import Annotated

import typer

from rljob_api.base import Manifest
from rljob_operator import names

from ..errors import UserMistake
from .going_on import initial_checkpoint, storage
from .jobs import Jobs
from .options import Context, Name, Namespace


def delete(
    job: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete a job that is not over, unsaved.")] = False,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Delete a job and its pods; its checkpoints stay unless the job says otherwise."""
    jobs = Jobs(namespace, context)
    running = [pod for pod in jobs.pods(job) if pod["status"].get("phase") in ("Pending", "Running")]
    if running and not yes:
        raise UserMistake(
            f"{job} has {len(running)} pods; only its last checkpoint would remain. "
            f"To lose nothing: {jobs.command(f'suspend {job}')}, then delete. To delete it now: add --yes"
        )
    found = jobs.get(job)
    jobs.delete(job)
    print(f"rljob.rljob.io/{job} deleted; {_what_stays(found)}")


def _what_stays(job: Manifest) -> str:
    kept, own = storage(job), names.claim(job["metadata"]["name"])
    claim = kept.get("claimName") or own
    if claim == own and kept.get("retentionPolicy", {}).get("whenDeleted") == "Delete":
        return f"its claim {own} goes too, as retentionPolicy.whenDeleted says"
    initial = initial_checkpoint(job)
    if not initial:
        return f"what it wrote stays in the claim {claim}"
    return (
        f"its checkpoints stay in the claim {claim}. A job of the same name does not take them up: to train on from "
        f"them, submit one under another name with `{initial}`"
    )
