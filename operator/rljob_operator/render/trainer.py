"""A trainer pod: all ranks of one node."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.status import AttemptStatus

from .. import names
from ..decide import PodStart
from ..settings import Settings
from .container import Container
from .convert import conversions, convert_container, node_rank
from .environment import from_secret
from .initial import initial
from .pod import pod
from .probes import http_probes
from .reward import own_reward

PATIENCE_SECONDS = 600
"""The server of `/progress` shares its process with the training: a long pause there is no proof of a hang."""

DO_NOT_DISRUPT = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""To move one pod of a gang is to restart all of it."""


def trainer_pod(job: RLJob, attempt: AttemptStatus, start: PodStart, settings: Settings) -> Manifest:
    trainer = job.spec.trainer
    leads = start.index == 0
    reward, begins_with = own_reward(job), initial(job)
    facts = Container(
        role=trainer,
        image=attempt.trainer_image,
        verb="train",
        env=(node_rank(start.index), *conversions(job), *_tracker_key(job), *reward.env),
        ports=_ports() if leads else (),
        probes=_probes() if leads else {},  # only rank 0 serves
        gpus=trainer.gpus_per_node,
        requests=settings.job_defaults.trainer_requests,
        grace_seconds=job.spec.checkpoint.on_preemption.grace_period_seconds,
        annotations=DO_NOT_DISRUPT,
        volumes=(*reward.volumes, *begins_with.volumes),
        mounts=(*reward.mounts, *begins_with.mounts),
        before=convert_container(job, attempt, start.index, settings),
    )
    return pod(job, attempt, start, facts, settings)


def _tracker_key(job: RLJob) -> list[Manifest]:
    wandb = job.spec.logging.wandb
    if wandb is None or wandb.secret_ref is None:
        return []
    return [{"name": "WANDB_API_KEY", "valueFrom": from_secret(wandb.secret_ref)}]


def _ports() -> tuple[Manifest, ...]:
    return (
        {"name": "master", "containerPort": names.MASTER_PORT},
        {"name": "progress", "containerPort": names.PROGRESS_PORT},
    )


def _probes() -> Manifest:
    return http_probes(
        names.PROGRESS_URL_PATH, names.PROGRESS_PORT, startup_period=1, patience_seconds=PATIENCE_SECONDS
    )
