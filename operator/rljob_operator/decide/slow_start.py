"""Pods that have a node and do not run, without a word of why, neither in their status nor in their Events.

A large image takes minutes. The message names all that the job mounts, as something of it may be what is waited for.
A claim is made beside the pods that mount it, and bound within seconds: they are given the same patience.
"""

from __future__ import annotations

from collections.abc import Iterator

from rljob_api.job import RLJob
from rljob_api.roles import Role

from .. import names
from ..observed import Observed, Pod, PodPhase

PATIENCE_SECONDS = 30


def slow(observed: Observed, now: float) -> list[Pod]:
    """Those that have been at it for longer than patience allows."""
    return [pod for pod in observed.pods if pod.silent and _patience_ends(pod) <= now]


def until_slow(observed: Observed, now: float) -> float | None:
    """When patience with the next pod ends."""
    waiting = (pod for pod in observed.pods if pod.silent or waits_for_claim(pod))
    return min((due for pod in waiting if (due := _patience_ends(pod)) > now), default=None)


def waits_for_claim(pod: Pod) -> bool:
    return pod.phase is PodPhase.PENDING and "persistentvolumeclaim" in pod.message.lower()


def claim_may_come(pod: Pod, now: float) -> bool:
    """It is there, not bound, and not waited for long yet; of one that is not there nobody says that it is unbound."""
    return waits_for_claim(pod) and "unbound" in pod.message and now < _patience_ends(pod)


def own_claim(job: RLJob) -> str:
    """The claim that checkpoints go to, in words."""
    storage = job.spec.checkpoint.storage
    name = names.claim(job.metadata.name, storage.claim_name)
    return f"claim {name}" + (f" of class {storage.storage_class_name}" if storage.storage_class_name else "")


def explanation(job: RLJob, pod: Pod) -> str:
    """What to look at."""
    wanted = ", ".join(dict.fromkeys(_needed(job))) or "nothing of your own"
    return (
        f"{pod.name} has a node and still does not run: its image is pulled, or a volume is waited for. It mounts: "
        f"{wanted}. `kubectl describe pod {pod.name}` tells."
    )


def _patience_ends(pod: Pod) -> float:
    return (pod.created_at or 0.0) + PATIENCE_SECONDS


def _needed(job: RLJob) -> Iterator[str]:
    if claim := job.spec.checkpoint.storage.claim_name:
        yield f"claim {claim}"
    python = job.spec.reward.python
    if python is not None and python.config_map_ref is not None:
        yield f"ConfigMap {python.config_map_ref.name}"
    for role in (job.spec.trainer, job.spec.rollout):
        yield from _of_template(role)


def _of_template(role: Role) -> Iterator[str]:
    for volume in role.template.spec.volumes:
        if volume.persistent_volume_claim is not None:
            yield f"claim {volume.persistent_volume_claim.claim_name}"
        if volume.config_map is not None and not volume.config_map.optional:
            yield f"ConfigMap {volume.config_map.name}"
        if volume.secret is not None and not volume.secret.optional:
            yield f"Secret {volume.secret.secret_name}"
