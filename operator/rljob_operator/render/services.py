"""The headless service: DNS names for the pods of both roles, from before they are ready."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.job import RLJob

from .. import names
from .owner import child


def service(job: RLJob) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child(job, names.service(job.metadata.name)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # ranks meet before any of them is ready
            "selector": names.job_labels(job.metadata.name),
        },
    }
