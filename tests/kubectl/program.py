"""`kubectl-rljob` as a process, to be talked to while it runs; or what it asks, from this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("kubectl-rljob")


@contextmanager
def running(kubeconfig: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Killed with the block, if it has not ended by itself."""
    with subprocess.Popen(
        [PROGRAM, *words],
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ask_cluster_of(kubeconfig: Path, patch: pytest.MonkeyPatch) -> None:
    """Let `Jobs` made in this process ask it. KUBECONFIG comes too late: the official client has read it by now."""
    patch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
