"""Where the API server keeps each kind that the operator reads or writes."""

from __future__ import annotations

from dataclasses import dataclass

from rljob_api.base import GROUP, VERSION
from rljob_api.crd import PLURAL


@dataclass(frozen=True)
class Resource:
    """One kind of object."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Of all objects, those of a namespace, one object, or a part of it."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (f"{root}{inside}/{self.plural}", name, subresource) if part)


JOBS = Resource(GROUP, VERSION, PLURAL)
PODS = Resource("", "v1", "pods")
EVENTS = Resource("", "v1", "events")
"""Of the core group: `events.k8s.io` keeps the same ones, but takes no new one with the time by which kubectl sorts."""
LEASES = Resource("coordination.k8s.io", "v1", "leases")

METADATA_KINDS = {
    "ConfigMap": Resource("", "v1", "configmaps"),
    "Service": Resource("", "v1", "services"),
    "PersistentVolumeClaim": Resource("", "v1", "persistentvolumeclaims"),
    "NetworkPolicy": Resource("networking.k8s.io", "v1", "networkpolicies"),
    "PodDisruptionBudget": Resource("policy", "v1", "poddisruptionbudgets"),
}
"""Kinds of which only the metadata is watched."""

CHILD_KINDS = {"Pod": PODS, "Secret": Resource("", "v1", "secrets"), **METADATA_KINDS}
"""Every kind that a job can be rendered to."""
