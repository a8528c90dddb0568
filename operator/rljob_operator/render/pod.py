"""What trainer and rollout pods share: identity, volumes, security. Fit for a namespace that enforces `restricted`."""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.job import RLJob
from rljob_api.status import AttemptStatus

from .. import names
from ..decide import PodStart
from ..settings import Settings
from . import template
from .authority import authority
from .container import Container, container
from .owner import child
from .storage import claim_name

USER_ID = 65532
SHM_SIZE = "32Gi"
"""Upper bound of /dev/shm, where ranks of a node exchange tensors. What is used counts as the container's memory, and a
smaller node or memory limit makes it smaller."""


def pod(
    job: RLJob, attempt: AttemptStatus, start: PodStart, facts: Container, settings: Settings
) -> Manifest:
    name = job.metadata.name
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **child(job, start.name),
            "labels": template.merged_labels(
                facts.role, names.pod_labels(name, start.role, start.index, attempt.number)
            ),
            "annotations": template.merged_annotations(facts.role, facts.annotations),
        },
        "spec": {
            "hostname": names.hostname(name, start.role, start.index),
            "subdomain": names.service(name),
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": facts.grace_seconds,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **template.placement(job, start.role, facts.role, settings.job_defaults),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **({"initContainers": list(facts.before)} if facts.before else {}),
            "containers": [container(job, start.role.value, facts, settings)],
            "volumes": [
                {"name": "run", "configMap": {"name": attempt.run_config_map_name}},
                {"name": "storage", "persistentVolumeClaim": {"claimName": claim_name(job)}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHM_SIZE}},
                {"name": "tmp", "emptyDir": {}},
                *authority(settings.job_defaults).volumes,
                *facts.volumes,
                *template.volumes(facts.role),
            ],
        },
    }
