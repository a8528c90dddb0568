"""etcd, kube-apiserver, and the controllers that a cluster with nodes needs beside them.

`fixtures.py` offers the first two on loopback ports as `api_server`; `boot.py` starts all of them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from ports import free_ports

from .api import Api
from .identities import write_identities
from .processes import Command, running, wait_until
from .programs import programs

READY_WITHIN_S = 300
SERVICE_RANGE = "10.96.0.0/16"
AUDIT_POLICY = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}


@dataclass(frozen=True)
class Ports:
    """Where etcd and the API server listen."""

    etcd: int = 2379
    etcd_peer: int = 2380
    api: int = 6443


@contextmanager
def control_plane(folder: Path, *flags: str) -> Iterator[Api]:
    """A fresh API server on loopback whose data and logs live in `folder`; we are its cluster administrator.

    `flags` are added to those of the API server.

    Raises `Unavailable` when the programs cannot be had, `Failure` when they do not start.
    """
    found = programs("etcd", "kube-apiserver")
    ports = Ports(*free_ports(3))
    write_identities(folder, {"admin": f"https://127.0.0.1:{ports.api}"}, ["127.0.0.1"])
    with ExitStack() as stack:
        stack.enter_context(running([found["etcd"], *etcd_flags(folder, ports)], folder / "etcd.log"))
        server: Command = [found["kube-apiserver"], *api_flags(folder, ports), *LOOPBACK_FLAGS, *flags]
        log = folder / "kube-apiserver.log"
        process = stack.enter_context(running(server, log))
        api = Api.of(folder / "admin.kubeconfig")
        wait_until_ready(api, process, log)
        yield api


def etcd_flags(folder: Path, ports: Ports) -> list[str]:
    here, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
    return [
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={here}",
        f"--advertise-client-urls={here}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
    ]


def api_flags(folder: Path, ports: Ports) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
        f"--secure-port={ports.api}",
        f"--client-ca-file={folder / 'ca.crt'}",
        f"--tls-cert-file={folder / 'kube-apiserver.crt'}",
        f"--tls-private-key-file={folder / 'kube-apiserver.key'}",
        f"--service-account-key-file={folder / 'accounts.pub'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--shutdown-delay-duration=0s",
    ]


LOOPBACK_FLAGS = [
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    "--endpoint-reconciler-type=none",  # the API server's own Service is of no use without nodes
]


def flags_for_nodes(folder: Path, address: str) -> list[str]:
    """What an API server that has nodes, and is reached at `address` from them, needs beside `api_flags`."""
    policy = folder / "audit.yaml"
    policy.write_text(json.dumps(AUDIT_POLICY))
    return [
        "--bind-address=0.0.0.0",
        f"--advertise-address={address}",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",  # else logs look up the node's name in DNS
        f"--kubelet-client-certificate={folder / 'kubelet-client.crt'}",
        f"--kubelet-client-key={folder / 'kubelet-client.key'}",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={folder / 'audit.log'}",
        "--audit-log-maxsize=10000",  # MB: a test reads it from its beginning
    ]


def controller_flags(folder: Path, lost_after_s: int) -> list[str]:
    return [
        f"--kubeconfig={folder / 'kube-controller-manager.kubeconfig'}",
        f"--service-account-private-key-file={folder / 'accounts.key'}",
        f"--root-ca-file={folder / 'ca.crt'}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        f"--flex-volume-plugin-dir={folder / 'volume-plugins'}",
        f"--node-monitor-grace-period={lost_after_s}s",
    ]


def scheduler_flags(folder: Path) -> list[str]:
    return [f"--kubeconfig={folder / 'kube-scheduler.kubeconfig'}", "--leader-elect=false"]


def wait_until_ready(api: Api, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the API server, which is `process` and writes `log`, serves.

    Raises `Failure` when it does not.
    """
    wait_until(lambda: _is_ready(api), "kube-apiserver is ready", READY_WITHIN_S, process, log)


def _is_ready(api: Api) -> bool:
    try:
        return api.get("/readyz").code == 200
    except (OSError, HTTPException):  # while it starts it may hang up in the middle of an answer
        return False
