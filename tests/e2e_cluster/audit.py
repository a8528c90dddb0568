"""What the operator asked of the API server: the cluster's audit log tells of every request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kube.api import Manifest
from kube.cluster import Cluster

from .deployment import NAMESPACE

OPERATOR = f"system:serviceaccount:{NAMESPACE}:rljob-operator"
READS = ("get", "list", "watch")


@dataclass(frozen=True)
class Asked:
    """A request of the operator that was answered."""

    verb: str
    group: str
    resource: str
    """With the subresource, as in a role: `rljobs/status`."""
    name: str
    code: int

    @property
    def is_write(self) -> bool:
        return self.verb not in READS


@dataclass(frozen=True)
class AuditLog:
    """From where it ended when this was made."""

    cluster: Cluster
    begin: int = 0
    """Bytes."""

    @classmethod
    def from_now(cls, cluster: Cluster) -> AuditLog:
        return cls(cluster, _file(cluster).stat().st_size)

    def of_operator(self) -> Iterator[Asked]:
        """Its requests about objects, in their order."""
        with _file(self.cluster).open("rb") as lines:
            if self.begin:  # perhaps in the middle of a line: the whole of it was begun before
                lines.seek(self.begin - 1)
                lines.readline()
            for line in lines:
                if OPERATOR.encode() in line and line.endswith(b"\n"):
                    event = json.loads(line)
                    if event["user"]["username"] == OPERATOR and _is_answered(event):
                        yield _asked(event)


def _file(cluster: Cluster) -> Path:
    return cluster.folder / "audit.log"


def _is_answered(event: Manifest) -> bool:
    """A request is told of when it comes, and again when it was answered."""
    return "objectRef" in event and event["stage"] == "ResponseComplete"


def _asked(event: Manifest) -> Asked:
    about = event["objectRef"]
    parts = (about["resource"], about.get("subresource", ""))
    resource = "/".join(part for part in parts if part)
    code = int(event["responseStatus"]["code"])
    return Asked(event["verb"], about.get("apiGroup", ""), resource, about.get("name", ""), code)
