"""`kubectl rljob checkpoints JOB`: what a restart would go on from, as the status knows it."""

from __future__ import annotations

import time

from rljob_api.status import CheckpointFacts, Status
from rljob_operator import times

from ..errors import UserMistake
from ..output import Output, OutputOption
from ..panel import proof
from ..words import duration, size
from .jobs import Jobs
from .known import known
from .options import Context, Name, Namespace


def checkpoints(
    job: Name,
    output: OutputOption = Output.TEXT,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show a job's newest checkpoint and how many are kept."""
    jobs = Jobs(namespace, context)
    status = known(jobs.get(job)).status
    kept = status.checkpoint
    if output is Output.JSON:
        print(kept.model_dump_json(by_alias=True, indent=2))
    elif kept.latest is None:
        raise UserMistake(f"{job} has no checkpoint yet; see `{jobs.command(f'status {job}')}`")
    else:
        print("\n".join([*facts(status, kept.latest, time.time()), f"kept      {kept.count}"]))


def facts(status: Status, latest: CheckpointFacts, now: float) -> list[str]:
    age = duration(max(0.0, now - times.to_seconds(latest.time)))
    held = [name for name, there in (("RNG", latest.has_rng), ("optimizer", latest.has_optimizer)) if there]
    return [
        f"step      {latest.step}, {age} ago",
        f"path      {latest.path}",
        f"size      {size(latest.bytes)}",
        f"verified  {'yes' if latest.verified else proof(status, latest)}",
        f"holds     {', '.join(['model', *held])}",
        f"layout    {latest.layout}",
    ]
