"""Who is who in a test cluster: keys, certificates, tokens, and a kubeconfig for each program."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

from .pki import Authority, write_key, write_public_key

GROUPS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "system:node-proxier",
    "test:dns": "system:masters",
    "test:storage": "system:masters",
    "test:network-policies": "system:masters",
}
SERVICE_NAMES = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]


def write_identities(folder: Path, urls: dict[str, str], addresses: list[str]) -> None:
    """Fill `folder` with all that the API server and its clients need to trust each other.

    `urls` says at which URL each user reaches the API server, which answers at `addresses`. A user's kubeconfig is
    named after the last part of its name: `node0.kubeconfig` is that of `system:node:node0`.
    """
    authority = Authority.create(folder / "ca.crt")
    authority.issue(folder / "kube-apiserver", "kube-apiserver", addresses=[*SERVICE_NAMES, *addresses])
    # without it `kubectl logs` and `exec` are unauthorized
    authority.issue(folder / "kubelet-client", "kube-apiserver", organization="system:masters", addresses=[])
    write_public_key(write_key(folder / "accounts.key"), folder / "accounts.pub")
    tokens = {user: secrets.token_urlsafe() for user in urls}
    lines = [f'{token},{user},{user},"{_group(user)}"\n' for user, token in tokens.items()]
    _write_secret(folder / "tokens.csv", "".join(lines))
    for user, url in urls.items():
        content = _kubeconfig(url, authority.certificate.read_bytes(), tokens[user])
        _write_secret(folder / f"{user.rsplit(':', 1)[-1]}.kubeconfig", content)


def _group(user: str) -> str:
    return "system:nodes" if user.startswith("system:node:") else GROUPS[user]


def _kubeconfig(url: str, authority: bytes, token: str) -> str:
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(authority).decode()}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "rljob", "cluster": cluster}],
        "users": [{"name": "rljob", "user": {"token": token}}],
        "contexts": [{"name": "rljob", "context": {"cluster": "rljob", "user": "rljob"}}],
        "current-context": "rljob",
    }
    return json.dumps(content, indent=2) + "\n"


def _write_secret(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content)
