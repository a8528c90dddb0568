"""Who may connect to the pods of a job. What is not allowed here is refused by a network that enforces policies.

vLLM's control routes and the ranks' ports know no authentication of their own worth the name. A policy knows ports and
no routes: whom an administrator lets read a server's `/metrics` can ask its other routes, and needs the job's token.
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
    """Trainers reach everything of their job. Servers join in weight transfers, whose collectives choose ports of their
    own on both sides and connect either way; ours, where ranks meet, progress is told and vLLM is asked, are below.

    The operator reads rank 0's progress, and never a server.
    """
    name = job.metadata.name
    trainers = {"podSelector": {"matchLabels": names.role_labels(name, RoleName.TRAINER)}}
    servers = {"podSelector": {"matchLabels": names.role_labels(name, RoleName.ROLLOUT)}}
    chosen = {"protocol": "TCP", "port": names.ROLLOUT_PORT + 1, "endPort": LAST_PORT}
    job_itself: list[Manifest] = [{"from": [trainers]}, {"from": [servers], "ports": [chosen]}]
    told = _readers(defaults.progress_namespaces, names.PROGRESS_PORT)
    measured = _readers(defaults.vllm_metrics_namespaces, names.ROLLOUT_PORT)
    return [
        _policy(job, RoleName.TRAINER, [*job_itself, *told]),
        _policy(job, RoleName.ROLLOUT, [*job_itself, *measured]),
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


def _readers(namespaces: list[str], port: int) -> list[Manifest]:
    """All pods of these namespaces, at one port."""
    if not namespaces:
        return []
    by_name = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces}
    return [
        {
            "from": [{"namespaceSelector": {"matchExpressions": [by_name]}}],
            "ports": [{"protocol": "TCP", "port": port}],
        }
    ]
