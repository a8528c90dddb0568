"""Environment of a pod: ours, then the administrator's, then the user's; of one name the last wins."""

from __future__ import annotations

from collections.abc import Iterable

from rljob_api.base import EnvVar, KeyReference, Manifest
from rljob_api.job import RLJob
from rljob_api.run import RUN_FILE

from .. import names
from ..settings import JobDefaults


def environment(
    job: RLJob, own: Iterable[Manifest], defaults: JobDefaults, users: Iterable[EnvVar]
) -> list[Manifest]:
    """`own`: what only this role gets."""
    given = (_variable(one) for one in (*defaults.env, *users))
    by_name = {one["name"]: one for one in (*_ours(job), *own, *given)}
    return list(by_name.values())


def _ours(job: RLJob) -> list[Manifest]:
    return [
        {"name": "RLJOB_RUN_FILE", "value": f"{names.RUN_PATH}/{RUN_FILE}"},
        {"name": "RLJOB_TERMINATION_LOG", "value": names.TERMINATION_LOG},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": names.CONTROL_TOKEN_ENV, "valueFrom": {"secretKeyRef": _control_token(job)}},
        *({"name": name, "value": place} for name, place in names.WRITABLE_PLACES.items()),
        *_hub_token(job),
        *([] if job.spec.on_gpu else [{"name": "OMP_NUM_THREADS", "value": "1"}]),
    ]


def _control_token(job: RLJob) -> Manifest:
    name = names.control_secret(job.metadata.name, job.metadata.uid)
    return {"name": name, "key": names.CONTROL_TOKEN_KEY}


def _hub_token(job: RLJob) -> list[Manifest]:
    token = job.spec.model.token_secret_ref
    return [] if token is None else [{"name": "HF_TOKEN", "valueFrom": from_secret(token)}]


def from_secret(reference: KeyReference) -> Manifest:
    """The `valueFrom` of a variable."""
    return {"secretKeyRef": reference.model_dump(by_alias=True)}


def _variable(variable: EnvVar) -> Manifest:
    if variable.value_from is None:
        return {"name": variable.name, "value": variable.value}
    return {"name": variable.name, "valueFrom": from_secret(variable.value_from.secret_key_ref)}
