"""A claim that somebody enlarged: its manifest is applied again, and nothing is asked to be smaller."""

from __future__ import annotations

import asyncio

from builders import a_job
from kube.api import Api, Manifest
from rljob_api.job import RLJob
from rljob_operator.cluster.resources import METADATA_KINDS
from rljob_operator.cluster.writer import Writer
from rljob_operator.render.storage import claim

from .rooms import Room, said

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


def test_a_claim_is_not_made_smaller(room: Room) -> None:
    path = enlarged(room)
    assert said(room.api.merge(path, sized("1Gi"))) == (422, "Invalid")
    assert size(room, path) == "3Gi"


def test_a_claim_that_somebody_enlarged_keeps_its_size_after_an_edit(room: Room) -> None:
    path = enlarged(room)
    made = make(room, the_claim(room, whenDeleted="Delete"), known=True)
    assert [owner["kind"] for owner in made["metadata"]["ownerReferences"]] == ["RLJob"]
    assert size(room, path) == "3Gi"
    assert room.api.merge(path, sized("1Ti")).code == 200, "and nobody is kept from enlarging it further"


def enlarged(room: Room) -> str:
    """The path of a job's claim that has a volume, and of which somebody asked for more since."""
    if isinstance(room.api, Api):
        body = {"metadata": {"name": room.namespace}, "provisioner": "none", "allowVolumeExpansion": True}
        assert room.api.post(CLASSES, body).code == 201
    make(room, the_claim(room), known=False)
    path = METADATA_KINDS["PersistentVolumeClaim"].path(room.namespace, "demo-storage")
    has = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    for where, part in ((path, {"spec": {"volumeName": "v"}}), (f"{path}/status", has), (path, sized("3Gi"))):
        answer = room.api.merge(where, part)
        assert answer.code == 200, answer.message
    return path


def the_claim(room: Room, **retention: str) -> Manifest:
    storage = {"size": "1Gi", "retentionPolicy": retention}
    job = a_job(checkpoint={"storage": storage})
    metadata = job.metadata.model_copy(update={"namespace": room.namespace})
    here: RLJob = job.model_copy(update={"metadata": metadata})
    (found,) = claim(here, room.namespace)
    return found


def make(room: Room, manifest: Manifest, *, known: bool) -> Manifest:
    async def made() -> Manifest:
        async with room.client() as client:
            answer = await Writer(client, lambda: None).make(manifest, known=known)
        assert answer is not None
        return answer

    return asyncio.run(made())


def sized(storage: str) -> Manifest:
    return {"spec": {"resources": {"requests": {"storage": storage}}}}


def size(room: Room, path: str) -> str:
    return str(room.api.get(path).body["spec"]["resources"]["requests"]["storage"])
