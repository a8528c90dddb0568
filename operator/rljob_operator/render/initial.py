"""`spec.initialCheckpoint`: where trainers find the directory of the job that this one begins with."""

from __future__ import annotations

from typing import NamedTuple

from rljob_api.base import Manifest
from rljob_api.job import RLJob

from .. import names
from .storage import claim_name


class Initial(NamedTuple):
    """What it adds to a trainer; nothing if both jobs share a claim, which is mounted already."""

    path: str = ""
    volumes: tuple[Manifest, ...] = ()
    mounts: tuple[Manifest, ...] = ()


def initial(job: RLJob) -> Initial:
    wanted = job.spec.initial_checkpoint
    if wanted is None or wanted.rljob_name is None:
        return Initial()
    claim = names.claim(wanted.rljob_name, wanted.claim_name)
    if claim == claim_name(job):
        return Initial(names.job_path(wanted.rljob_name))
    return Initial(
        names.initial_path(wanted.rljob_name),
        volumes=({"name": "initial", "persistentVolumeClaim": {"claimName": claim}},),
        mounts=({"name": "initial", "mountPath": names.INITIAL_CLAIM_PATH, "readOnly": True},),
    )
