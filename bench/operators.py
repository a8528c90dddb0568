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
from waiting import until

NAMESPACE = "bench"


@dataclass
class Field(Place):
    """A namespace, and quick ways in it."""

    sample: list[Manifest] = field(default_factory=list)
    """Pods of the operator that were seen last."""

    @classmethod
    @contextmanager
    def prepared(cls, folder: Path, *flags: str) -> Iterator[Field]:
        """`flags` are the API server's."""
        (folder / "kube").mkdir(parents=True)
        with control_plane(folder / "kube", *flags) as api:
            install_crd(api)
            here = cls(api, NAMESPACE, folder)
            here.prepare()
            try:
                yield here
            finally:
                for one in here.operators:
                    one.kill()

    def leader(self) -> Operator:
        """A new operator that leads."""
        one = self.operator()
        until(lambda: one.says("leading"), lambda: f"{one.name} leads: {one.log.read_text()[-3000:]}", 60)
        return one

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

    def found(self, selector: str) -> list[Manifest]:
        """Pods with those labels."""
        path = f"{PODS.path(self.namespace)}?labelSelector={selector}"
        return list(self.api.get(path).body["items"])

    def pods_of(self, job: str) -> list[Manifest]:
        return self.found(f"rljob.io/name={job}")

    def remove(self, job: str) -> None:
        """The job and its pods, for no garbage collector is at work."""
        self.api.delete(JOBS.path(self.namespace, job))
        self.remove_pods(f"rljob.io/name={job}")

    def remove_pods(self, selector: str) -> None:
        """At once. Again and again, for who makes them may hear of a pod's end before that of its job."""
        path = f"{PODS.path(self.namespace)}?labelSelector={selector}"

        def gone() -> bool:
            self.api.send("DELETE", path, {"gracePeriodSeconds": 0})
            return not self.found(selector)

        until(gone, f"pods with {selector} are gone", 120)
