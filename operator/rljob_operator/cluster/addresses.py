"""A loopback address for each host name of a local job: what DNS and pod networks do in a cluster.

127.0.0.0/8 is all loopback on Linux, so every pod can listen on the same port at its own address. A job's /24 comes
from its work directory, so that two jobs run side by side.
"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

from rljob_api.failure import RoleName
from rljob_api.job import RLJob

from .. import names

HOSTS = 254


class TooManyPodsError(Exception):
    """The job does not fit on one machine; the message says which fields to change."""


def addresses(job: RLJob, work_dir: Path) -> dict[str, str]:
    """Address by host name, for all pods that the job can have. Raises `TooManyPodsError`."""
    digest = hashlib.sha256(str(work_dir).encode()).digest()
    subnet = f"127.{1 + digest[0] % 254}.{digest[1]}"
    roles = ((RoleName.TRAINER, job.spec.trainer.num_nodes), (RoleName.ROLLOUT, job.spec.rollout.replicas))
    hosts = [names.host(job.metadata.name, role, index) for role, count in roles for index in range(count)]
    if len(hosts) > HOSTS:
        raise TooManyPodsError(
            f"spec.trainer.numNodes plus spec.rollout.replicas is {len(hosts)}; on one machine at most {HOSTS} pods run"
        )
    return {host: f"{subnet}.{number}" for number, host in enumerate(hosts, start=1)}


def is_free(address: str, port: int) -> bool:
    """Whether a pod could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
