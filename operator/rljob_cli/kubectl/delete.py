"""`kubectl rljob delete JOB`."""

from __future__ import annotations

from typing import Annotated

import typer

from rljob_operator import names

from ..errors import UserMistake
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
    storage = jobs.get(job)["spec"].get("checkpoint", {}).get("storage", {})
    jobs.delete(job)
    print(f"rljob.rljob.io/{job} deleted; {_what_stays(job, storage)}")


def _what_stays(job: str, storage: dict[str, object]) -> str:
    retention = storage.get("retentionPolicy")
    if isinstance(retention, dict) and retention.get("whenDeleted") == "Delete":
        return f"its claim {names.claim(job)} goes too, as retentionPolicy.whenDeleted says"
    return f"its checkpoints stay in the claim {storage.get('claimName') or names.claim(job)}"
