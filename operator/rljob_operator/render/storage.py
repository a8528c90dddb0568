"""The claim that checkpoints, samples and the export live on. It outlives the job."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.job import RLJob

from .. import names
from .owner import retained


def claim(job: RLJob) -> list[Manifest]:
    """Nothing if the user named an existing claim."""
    storage = job.spec.checkpoint.storage
    if storage.claim_name is not None:
        return []
    spec: Manifest = {
        "accessModes": [mode.value for mode in storage.access_modes],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": retained(job, names.claim(job.metadata.name)),
            "spec": spec,
        }
    ]
