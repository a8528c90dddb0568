"""How a new job goes on from the checkpoints of one that is over, or deleted."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.checkpoint import InitialCheckpoint


def initial_checkpoint(job: Manifest) -> str:
    """What the new job says, for example `initialCheckpoint: {rljobName: demo, step: 40}`; empty if `job` has no
    checkpoint."""
    latest = job.get("status", {}).get("checkpoint", {}).get("latest")
    if not latest:
        return ""
    claim = storage(job).get("claimName")
    return InitialCheckpoint(rljob_name=job["metadata"]["name"], step=latest["step"], claim_name=claim).told


def storage(job: Manifest) -> Manifest:
    """`spec.checkpoint.storage`, as far as the job says it."""
    found: Manifest = job["spec"].get("checkpoint", {}).get("storage", {})
    return found
