"""etcd and kube-apiserver on loopback ports, for as long as a test session needs them. No nodes, no controllers.

`tests/conftest.py` offers it as the fixture `api_server`.
"""

from __future__ import annotations

import ctypes
import secrets
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .api import Api
from .pki import write_certificate, write_key, write_public_key
from .programs import programs

Command = list[str | Path]

READY_WITHIN_S = 120
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@contextmanager
def control_plane(folder: Path) -> Iterator[Api]:
    """A fresh API server whose data and logs live in `folder`; we are its cluster administrator.

    Raises `Unavailable` when the programs cannot be had.
    """
    found = programs("etcd", "kube-apiserver")
    token = secrets.token_urlsafe()
    _write_identities(folder, token)
    etcd_port, peer_port, api_port = _free_ports(3)
    with ExitStack() as stack:
        etcd: Command = [found["etcd"], *_etcd_flags(folder, etcd_port, peer_port)]
        stack.enter_context(_running(etcd, folder / "etcd.log"))
        server: Command = [found["kube-apiserver"], *_api_flags(folder, etcd_port, api_port)]
        process = stack.enter_context(_running(server, folder / "kube-apiserver.log"))
        tls = ssl.create_default_context(cafile=folder / "tls.crt")
        api = Api(f"https://127.0.0.1:{api_port}", tls, token)
        _wait_until_ready(api, process, folder / "kube-apiserver.log")
        yield api


def _write_identities(folder: Path, token: str) -> None:
    write_certificate(write_key(folder / "tls.key"), folder / "tls.crt")
    write_public_key(write_key(folder / "accounts.key"), folder / "accounts.pub")
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")


def _etcd_flags(folder: Path, port: int, peer_port: int) -> list[str]:
    here, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
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


def _api_flags(folder: Path, etcd_port: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={folder / 'tls.crt'}",
        f"--tls-private-key-file={folder / 'tls.key'}",
        f"--service-account-key-file={folder / 'accounts.pub'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--endpoint-reconciler-type=none",  # the API server's own Service is of no use here
        "--shutdown-delay-duration=0s",
    ]


@contextmanager
def _running(command: Command, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, or with this process however that ends."""
    libc = ctypes.CDLL(None)
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: libc.prctl(DIE_WITH_PARENT, signal.SIGKILL),  # noqa: PLW1509
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()  # nothing to save: the folder is thrown away


def _free_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_until_ready(api: Api, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not _is_ready(api):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"kube-apiserver is not ready; its last words:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)


def _is_ready(api: Api) -> bool:
    try:
        return api.get("/readyz").code == 200
    except OSError:
        return False
