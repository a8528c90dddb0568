"""The init container of trainers on the megatron backend: it has the model converted before training starts.

In every trainer pod, so that nothing orders pods among themselves, which would deadlock with gang scheduling. One of
them, or another job, does the work; the others wait for it. No probe watches it: it ends by itself when it hangs.
"""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.parallelism import BackendName
from rljob_api.status import AttemptStatus

from .. import names
from ..settings import Settings
from .container import Container, container


def convert_container(
    job: RLJob, attempt: AttemptStatus, node: int, settings: Settings
) -> tuple[Manifest, ...]:
    """Nothing on a backend that loads Hugging Face models itself. CPU and memory are the trainer's, GPUs none."""
    if job.spec.chosen_backend is not BackendName.MEGATRON:
        return ()
    facts = Container(
        role=job.spec.trainer,
        image=attempt.trainer_image,
        verb="convert",
        env=(node_rank(node), *conversions(job)),
        ports=(),
        probes={},
        gpus=0,
        requests=settings.job_defaults.trainer_requests,
    )
    return (container(job, names.CONVERT, facts, settings),)


def conversions(job: RLJob) -> tuple[Manifest, ...]:
    """Where converted models are kept: on the claim, where every pod sees them."""
    if job.spec.chosen_backend is not BackendName.MEGATRON:
        return ()
    return ({"name": names.CONVERSIONS_ENV, "value": names.CONVERSIONS_PATH},)


def node_rank(node: int) -> Manifest:
    return {"name": "RLJOB_NODE_RANK", "value": str(node)}
