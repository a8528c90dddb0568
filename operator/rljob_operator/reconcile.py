"""One pass over one job: observe, decide, act, tell. Any cause leads to the same pass."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from rljob_api.job import RLJob
from rljob_api.status import Status

from .cluster.protocol import Cluster
from .decide import Decision, Goal, decide
from .observed import Observed
from .pin import pinned
from .render import missing, render
from .settings import Settings
from .status import status


@dataclass(frozen=True)
class Pass:
    """What one pass saw, decided and wrote."""

    observed: Observed
    """With what the cluster refused in this pass."""
    decision: Decision
    status: Status

    @property
    def settled(self) -> bool:
        """Nothing of the job runs, and nothing is about to be started."""
        decision = self.decision
        paused = decision.wake_at is not None and decision.goal not in (Goal.COMPLETE, Goal.FAIL)
        return not (decision.begin or decision.start or paused) and all(
            pod.ended for pod in self.observed.pods
        )


async def reconcile(job: RLJob, cluster: Cluster, settings: Settings, now: float) -> Pass:
    """`job.status` is what the pass before wrote. An attempt's number is written before any pod of it is rendered, and
    how a pod ended before the pod is deleted: whenever this is cut short, the next pass finds out what is left to do.
    """
    observed = await cluster.observe(job)
    decision = pinned(job, decide(job, observed, now), settings.job_defaults)
    token = secrets.token_urlsafe(32)
    asked = render(job, decision, token, settings)
    refusal = await cluster.apply(job, asked) if asked else None
    refusal = refusal or await cluster.restore(job, missing(job, observed, token, settings))
    observed = replace(observed, refusal=refusal)
    new = status(job, observed, decision, now)
    if new != job.status and not decision.delete_job:
        await cluster.write_status(job, new)
    await cluster.delete(job, decision.delete)
    if decision.delete_job:
        await cluster.delete_job(job)
    return Pass(observed, decision, new)
