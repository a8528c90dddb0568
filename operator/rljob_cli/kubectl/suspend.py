"""`kubectl rljob suspend | resume JOB`: the field `spec.suspend`, by name."""

from __future__ import annotations

from .jobs import Jobs
from .options import Context, Name, Namespace


def suspend(job: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Save, stop the pods and keep the storage."""
    Jobs(namespace, context).merge(job, {"spec": {"suspend": True}})
    print(f"{job}: trainers save and stop; `kubectl rljob resume {job}` goes on from there")


def resume(job: Name, namespace: Namespace = None, context: Context = None) -> None:
    """Go on from the newest verified checkpoint."""
    Jobs(namespace, context).merge(job, {"spec": {"suspend": False}})
    print(f"{job}: goes on; see `kubectl rljob status {job}`")
