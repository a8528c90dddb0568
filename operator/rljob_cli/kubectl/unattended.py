"""Jobs that no operator looks after, so that nobody waits for what will not come. Pure."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.job import OURS
from rljob_operator import times

PATIENCE_SECONDS = 10.0
"""An operator that runs has taken up a job long before; one that takes over from another a little later."""


def unattended(job: Manifest, now: float) -> str:
    """Why no operator looks after it, and what to do; empty if one does, or had no time yet."""
    manager = job["spec"].get("managedBy")
    if manager not in OURS:
        return (
            f"Managed by {manager} (spec.managedBy): RLJob's operator leaves it alone, "
            "and that controller decides what comes of it."
        )
    if job.get("status") or now - times.to_seconds(job["metadata"]["creationTimestamp"]) < PATIENCE_SECONDS:
        return ""
    return (
        "No operator has taken it up yet: "
        "either none runs (see `kubectl get pods -A -l app.kubernetes.io/part-of=rljob`), "
        f"or the chart's value `namespaces` leaves out {job['metadata']['namespace']}; "
        'see "RLJobs stay without a status" in docs/install.md.'
    )
