"""A real API server and the operator as a process, for benchmarks of the control plane."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from builders import manifest
from kube.api import Manifest
from kube.control_plane import control_plane
from kube.fixtures import install_crd
from rljob_operator.cluster.resources import JOBS, PODS
from shell.places import Operator, Place

NAMESPACE = "bench"


@dataclass
class Field(Place):
    """A namespace, and quick ways in it."""

    sample: list[Manifest] = field(default_factory=list)
    """Pods that were seen last."""

    @classmethod
    @contextmanager
    def prepared(cls, folder: Path) -> Iterator[Field]:
        (folder / "kube").mkdir(parents=True)
        with control_plane(folder / "kube") as api:
            install_crd(api)
            here = cls(api, NAMESPACE, folder)
            here.prepare()
            try:
                yield here
            finally:
                for one in here.operators:
                    one.kill()

    def body(self, name: str, **spec: Any) -> Manifest:
        return manifest(**spec) | {"metadata": {"name": name}}

    def of_nodes(self, name: str, pods: int) -> Manifest:
        """A job with so many pods: one rollout server, the rest trainers."""
        grpo = {"maxSteps": 10, "promptsPerStep": 64, "generationsPerPrompt": 16}
        return self.body(name, trainer={"numNodes": pods - 1}, algorithm={"grpo": grpo})

    def url(self, path: str) -> str:
        return f"{self.api.url}{path}"

    def session(self) -> aiohttp.ClientSession:
        tls: ssl.SSLContext | bool = self.api.tls or False
        headers = {"Authorization": f"Bearer {self.api.token}", "Content-Type": "application/json"}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0), headers=headers, read_bufsize=2**20
        )

    def pods_of(self, job: str) -> list[Manifest]:
        selector = f"?labelSelector=rljob.io/name={job}"
        return list(self.api.get(PODS.path(self.namespace) + selector).body["items"])

    def remove(self, job: str) -> None:
        """The job and its pods, for no garbage collector is at work."""
        self.api.delete(JOBS.path(self.namespace, job))
        selector = f"?labelSelector=rljob.io/name={job}"
        while self.pods_of(job):  # the operator may hear of a pod's end before that of its job
            self.api.delete(PODS.path(self.namespace) + selector)


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


__all__ = ["Field", "Operator", "rss_mib"]
