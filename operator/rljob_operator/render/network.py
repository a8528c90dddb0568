"""Who may connect to the pods of a job. What is not allowed here is refused by a network that enforces policies.

vLLM's control routes and the ranks' ports know no authentication of their own worth the name.
"""

from __future__ import annotations

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob

from .. import names
from ..settings import JobDefaults
from .owner import child

LAST_PORT = 65535


def network_policies(job: RLJob, defaults: JobDefaults) -> list[Manifest]:
    """Collectives choose ports of their own, and join servers to each other; only trainers reach their HTTP port."""
    name = job.metadata.name
    whole_job = {"podSelector": {"matchLabels": names.job_labels(name)}}
    trainers = {"podSelector": {"matchLabels": names.role_labels(name, RoleName.TRAINER)}}
    servers = {"podSelector": {"matchLabels": names.role_labels(name, RoleName.ROLLOUT)}}
    chosen = {"protocol": "TCP", "port": names.ROLLOUT_PORT + 1, "endPort": LAST_PORT}
    return [
        _policy(job, RoleName.TRAINER, [{"from": [whole_job]}, *_readers(defaults, names.PROGRESS_PORT)]),
        _policy(
            job,
            RoleName.ROLLOUT,
            [
                {"from": [trainers]},
                {"from": [servers], "ports": [chosen]},
                *_readers(
                    defaults, names.ROLLOUT_PORT
                ),  # without the token they get no further than /metrics
            ],
        ),
    ]


def _policy(job: RLJob, role: RoleName, ingress: list[Manifest]) -> Manifest:
    name = job.metadata.name
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": child(job, names.network_policy(name, role)),
        "spec": {
            "podSelector": {"matchLabels": names.role_labels(name, role)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }


def _readers(defaults: JobDefaults, port: int) -> list[Manifest]:
    """The namespaces whose pods read what rank 0 and the servers tell."""
    if not defaults.progress_namespaces:
        return []
    by_name = {
        "key": "kubernetes.io/metadata.name",
        "operator": "In",
        "values": list(defaults.progress_namespaces),
    }
    return [
        {
            "from": [{"namespaceSelector": {"matchExpressions": [by_name]}}],
            "ports": [{"protocol": "TCP", "port": port}],
        }
    ]
