"""The claim that checkpoints, samples and the export live on. It outlives the job unless its user said otherwise."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.checkpoint import WhenDeleted
from rljob_api.job import RLJob

from .. import names
from .owner import child, retained


def claim_name(job: RLJob) -> str:
    """The claim that the job's pods mount."""
    return names.claim(job.metadata.name, job.spec.checkpoint.storage.claim_name)


def claim(job: RLJob, storage_class_name: str) -> list[Manifest]:
    """Nothing if the user named an existing claim. An empty class means the cluster's default."""
    storage = job.spec.checkpoint.storage
    if storage.claim_name is not None:
        return []
    spec: Manifest = {
        "accessModes": [mode.value for mode in storage.access_modes],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage_class_name:
        spec["storageClassName"] = storage_class_name
    metadata = child if storage.retention_policy.when_deleted is WhenDeleted.DELETE else retained
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata(job, names.claim(job.metadata.name)),
            "spec": spec,
        }
    ]
