"""What the operator may do, as data: the chart makes its roles from this, and tests compare it with what is used."""

from __future__ import annotations

from dataclasses import dataclass

from rljob_api.base import GROUP
from rljob_api.crd import PLURAL


@dataclass(frozen=True)
class Right:
    """Verbs on one resource, as in a Role's rule."""

    group: str
    resource: str
    verbs: tuple[str, ...]


WATCH = ("list", "watch")
APPLY = ("patch", "create")
"""Server-side apply of an object that is not there asks for `create` as well."""

JOB_RIGHTS = (
    Right(GROUP, PLURAL, (*WATCH, "delete")),  # ttlSecondsAfterFinished
    Right(GROUP, f"{PLURAL}/status", ("update",)),
    Right("", "pods", ("get", *WATCH, "create", "delete")),
    Right("", "configmaps", ("get", *WATCH, "create", "delete")),
    Right("", "secrets", ("create",)),  # its content is never read
    Right("", "services", (*WATCH, *APPLY)),
    Right("", "persistentvolumeclaims", (*WATCH, *APPLY)),  # never deleted: checkpoints live there
    Right("networking.k8s.io", "networkpolicies", (*WATCH, *APPLY, "delete")),
    Right("policy", "poddisruptionbudgets", (*WATCH, *APPLY, "delete")),
    Right("", "events", ("create", "list")),  # those of a pod that does not start
)
"""Wherever jobs are looked after: everywhere, or in `settings.namespaces`."""

LEASE_RIGHTS = (Right("coordination.k8s.io", "leases", ("get", "create", "update")),)
"""In the operator's own namespace."""
