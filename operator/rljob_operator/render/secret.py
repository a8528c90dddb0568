"""The token that trainers show to vLLM's control routes, which have no authentication of their own."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.job import RLJob

from .. import names
from ..observed import Observed, PodPhase
from .owner import child


def control_secret(job: RLJob, token: str) -> Manifest:
    """One per job: servers outlive attempts. Created once, so the token of a later call is not taken."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": child(job, names.control_secret(job.metadata.name, job.metadata.uid)),
        "immutable": True,
        "type": "Opaque",
        "stringData": {names.CONTROL_TOKEN_KEY: token},
    }


def is_missed(job: RLJob, observed: Observed) -> bool:
    """Whether a pod says that it waits for it: it was deleted after the pod was made, and before its container was."""
    name = names.control_secret(job.metadata.name, job.metadata.uid)
    waiting = [pod for pod in observed.pods if pod.phase is PodPhase.PENDING and not pod.terminating]
    return any(name in pod.message for pod in waiting)
