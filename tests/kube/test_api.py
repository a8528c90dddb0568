"""The client of tests, with the real API server and the real kubectl."""

from __future__ import annotations

import shutil
from pathlib import Path

from .api import Api
from .processes import run
from .programs import programs


def test_a_kubeconfig_that_kubectl_wrote_anew_is_read(api_server: Api, tmp_path: Path) -> None:
    """`kubectl config set-context` makes YAML of it, and `make cluster-down` needs it after that."""
    kubeconfig = Path(shutil.copy(api_server.kubeconfig, tmp_path))
    kubectl = programs("kubectl")["kubectl"]
    run(kubectl, "--kubeconfig", kubeconfig, "config", "set-context", "--current", "--namespace=kube-system")
    assert kubeconfig.read_bytes() != api_server.kubeconfig.read_bytes()
    assert Api.of(kubeconfig).get("/api/v1/namespaces/kube-system").code == 200
