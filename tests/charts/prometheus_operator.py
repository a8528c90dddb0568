"""The Prometheus Operator's CRDs, from its Go module: what our monitors and rules must fit."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from kube.api import Manifest
from kube.programs import Unavailable

from .chart import documents

MODULE = "github.com/prometheus-operator/prometheus-operator@v0.80.1"
CHECKSUM = "h1:jeqy9C8ku5coMThZh/cVrB5FwJHlV98jvnSeVnQKCQw="
KINDS = ["podmonitors", "prometheusrules", "servicemonitors"]


def crds() -> list[Manifest]:
    """Those that the chart has objects of.

    Raises `Unavailable` where Go's modules cannot be had.
    """
    folder = _module() / "example" / "prometheus-operator-crd"
    files = [folder / f"monitoring.coreos.com_{kind}.yaml" for kind in KINDS]
    return [crd for file in files for crd in documents(file.read_text())]


def _module() -> Path:
    if shutil.which("go") is None:
        raise Unavailable(f"no Go here to get {MODULE} with")
    command = ["go", "mod", "download", "-json", MODULE]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    answer = json.loads(ended.stdout or "{}")
    if "Dir" not in answer:
        raise Unavailable(f"{MODULE} cannot be had: {answer.get('Error') or ended.stderr.strip()}")
    assert answer["Sum"] == CHECKSUM, f"{MODULE} is not what it was"
    return Path(answer["Dir"])
