"""How a new job goes on from the checkpoints of one that is over, or deleted."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.checkpoint import InitialCheckpoint

from .wait import verdict

SAVES = "what runs saves and stops"
"""What `suspend` and `delete` say of a job that may save; the others say why not."""


def initial_checkpoint(job: Manifest) -> str:
    """What the new job says, for example `initialCheckpoint: {rljobName: demo, step: 40}`; empty if `job` has no
    checkpoint. Without the step, which means the newest, for a job that is not over: it saves a later one as it goes.
    """
    latest = job.get("status", {}).get("checkpoint", {}).get("latest")
    if not latest:
        return ""
    claim = storage(job).get("claimName")
    step = latest["step"] if verdict(job) is not None else None
    return InitialCheckpoint(rljob_name=job["metadata"]["name"], step=step, claim_name=claim).told


def what_stops(job: Manifest) -> str:
    """What pods that are told to go do with the step in hand, by `spec.checkpoint`."""
    checkpoint = job["spec"].get("checkpoint", {})
    if not checkpoint.get("enabled", True):
        return "what runs stops unsaved, as checkpoint.enabled is false"
    if not checkpoint.get("onPreemption", {}).get("save", True):
        return "what runs stops without saving, as checkpoint.onPreemption.save is false"
    return SAVES


def storage(job: Manifest) -> Manifest:
    """`spec.checkpoint.storage`, as far as the job says it."""
    found: Manifest = job["spec"].get("checkpoint", {}).get("storage", {})
    return found
