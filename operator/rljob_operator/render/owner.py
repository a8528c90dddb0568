"""What every object of a job carries: its name, its labels, its owner."""

from __future__ import annotations

from rljob_api.base import API_VERSION, KIND, Manifest
from rljob_api.job import RLJob

from .. import names


def child(job: RLJob, name: str) -> Manifest:
    """Metadata of an object that goes when the job goes."""
    return retained(job, name) | {"ownerReferences": [_owner(job)]}


def retained(job: RLJob, name: str) -> Manifest:
    """Metadata of an object that outlives the job."""
    return {
        "name": name,
        "namespace": job.metadata.namespace,
        "labels": names.object_labels(job.metadata.name),
    }


def _owner(job: RLJob) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,  # True would need rights on the owner's finalizers
    }
