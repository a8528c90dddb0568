"""How many servers a drain of nodes leaves standing. Trainers have no budget: one that is moved restarts all anyway."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob

from .. import names
from .owner import child


def disruption_budget(job: RLJob) -> list[Manifest]:
    """An integer `minAvailable`: with `maxUnavailable`, pods of an owner that scales could never be evicted.

    One server can always go, or a drain would never end; so a single server has no budget.
    """
    kept = min(job.spec.rollout.min_replicas, job.spec.rollout.replicas - 1)
    if kept == 0:
        return []
    name = job.metadata.name
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": child(job, names.disruption_budget(name)),
            "spec": {
                "minAvailable": kept,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": names.role_labels(name, RoleName.ROLLOUT)},
            },
        }
    ]
