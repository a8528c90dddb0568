"""The attempt's ConfigMap: the whole validated Run. The operator passes parameters on without naming them."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.run import RUN_FILE, Paths, Run
from rljob_api.status import AttemptStatus

from .. import names
from ..settings import JobDefaults
from .initial import initial
from .owner import child


def run_config_map(job: RLJob, attempt: AttemptStatus, defaults: JobDefaults) -> Manifest:
    """Immutable: a running attempt is never rendered anew."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child(job, attempt.run_config_map_name),
        "immutable": True,
        "data": {RUN_FILE: _run(job, attempt, defaults).model_dump_json(by_alias=True)},
    }


def _run(job: RLJob, attempt: AttemptStatus, defaults: JobDefaults) -> Run:
    name = job.metadata.name
    replicas = range(job.spec.rollout.replicas)
    return Run(
        name=name,
        namespace=job.metadata.namespace,
        uid=job.metadata.uid,
        attempt=attempt.number,
        token=attempt.token,
        spec=job.spec,
        paths=Paths(storage=names.job_path(name), cache=names.CACHE_PATH, initial=initial(job).path),
        master_addr=names.host(name, RoleName.TRAINER, 0),
        master_port=names.MASTER_PORT,
        progress_port=names.PROGRESS_PORT,
        rollout_hosts=[names.host(name, RoleName.ROLLOUT, index) for index in replicas],
        rollout_host=names.rollout_host_pattern(name),
        rollout_port=names.ROLLOUT_PORT,
        trainer_image=attempt.trainer_image,
        rollout_image=attempt.rollout_image,
        default_env=defaults.env,
    )
