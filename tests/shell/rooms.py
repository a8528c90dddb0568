"""A namespace of an API server: of the real one, or of the one in memory. Contract tests ask both the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from builders import manifest
from kube.api import Answer, Api, Manifest
from rljob_operator.cluster.client import Client, configuration
from rljob_operator.cluster.resources import JOBS, PODS
from waiting import until

from .memory_api import MemoryApi
from .memory_client import Faults, MemoryClient


class Asked(Protocol):
    """Either of the two."""

    def get(self, path: str) -> Answer: ...
    def post(self, path: str, body: Manifest) -> Answer: ...
    def put(self, path: str, body: Manifest) -> Answer: ...
    def merge(self, path: str, body: Manifest) -> Answer: ...
    def delete(self, path: str) -> Answer: ...
    def send(
        self, method: str, path: str, body: Manifest | None = None, content_type: str = "application/json"
    ) -> Answer: ...


@dataclass
class Room:
    """A namespace of one of them."""

    api: Asked
    namespace: str

    def pod(self, name: str = "p", placed: bool = True) -> Manifest:
        spec: Manifest = {"containers": [{"name": "main", "image": "i"}], "terminationGracePeriodSeconds": 9}
        body = {"metadata": {"name": name, "labels": {"a": "b"}}, "spec": spec}
        made = self.api.post(PODS.path(self.namespace), body)
        assert made.code == 201, made.message
        if placed:
            target = {"kind": "Node", "name": "n"}
            bound = self.api.post(
                PODS.path(self.namespace, name, "binding"), {"metadata": {"name": name}, "target": target}
            )
            assert bound.code == 201, bound.message
        return self.api.get(PODS.path(self.namespace, name)).body

    def asked_for_a_pod(self, query: str = "") -> Answer:
        """What the API server says to one more, by the name of `pod`."""
        body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "m", "image": "i"}]}}
        return self.api.post(f"{PODS.path(self.namespace)}{query}", body)

    def job(self) -> Manifest:
        made = self.api.post(JOBS.path(self.namespace), manifest() | {"metadata": {"name": "j"}})
        assert made.code == 201, made.message
        return made.body

    def forbid_pods(self) -> None:
        """By a quota: no pod more."""
        if isinstance(self.api, MemoryApi):
            self.api.quota = 0
            return
        set_quota(self.api, self.namespace, 0)
        until(lambda: self.asked_for_a_pod("?dryRun=All").code == 403, lambda: "the quota holds")

    def delete(self, path: str, **options: object) -> Answer:
        return self.api.send("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """As the operator has it."""
        if isinstance(self.api, MemoryApi):
            yield MemoryClient(self.api, Faults())
        elif isinstance(self.api, Api):
            async with Client(await configuration(self.api.kubeconfig)) as client:
                yield client


def set_quota(api: Asked, namespace: str, pods: int) -> None:
    """So many pods at most, of a real API server: also writes what the quota's controller would, which counts them."""
    quotas, hard = f"/api/v1/namespaces/{namespace}/resourcequotas", {"pods": str(pods)}
    used = {"pods": str(len(api.get(PODS.path(namespace)).body["items"]))}
    made = api.post(quotas, {"metadata": {"name": "few"}, "spec": {"hard": hard}})
    assert made.code in (201, 409), made.message
    told = api.merge(f"{quotas}/few/status", {"status": {"hard": hard, "used": used}})
    assert told.code == 200, told.message


def said(answer: Answer) -> tuple[int, str]:
    return answer.code, str(answer.body.get("reason", ""))


def version(body: Manifest) -> int:
    return int(body["metadata"]["resourceVersion"])
