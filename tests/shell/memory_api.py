"""An API server in memory: as much of one as the operator uses. `test_contract.py` holds it to the real one.

Objects live in collections by path; each change gets the next revision and is kept for watches. What is kept is never
changed, so versions share what they have in common; whoever asks gets a copy.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from kubernetes.utils import parse_quantity

from builders import PLENTY
from kube.api import Answer, Manifest

PATH = re.compile(
    r"(?P<root>/(?:api/v1|apis/[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$"
)
APPLY = "application/apply-patch+yaml"
KINDS = {
    "pods": "Pod",
    "configmaps": "ConfigMap",
    "secrets": "Secret",
    "services": "Service",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "networkpolicies": "NetworkPolicy",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "rljobs": "RLJob",
    "leases": "Lease",
    "events": "Event",
}
DRY_RUN = "dryRun=All"
OVER = ("Succeeded", "Failed")
MARKED = {"rljobs"}
"""Their generation rises with their spec."""


class Change(NamedTuple):
    revision: int
    plural: str
    type: str
    object: Manifest


class Place(NamedTuple):
    plural: str
    namespace: str
    name: str
    sub: str


@dataclass
class MemoryApi:
    clock: Callable[[], str]
    """Now, as metav1.Time."""
    changes: list[Change] = field(default_factory=list)
    compacted: int = 0
    """Watches from before this revision are refused."""
    quota: int = PLENTY
    """Pods that a namespace may have, beside those that ended."""
    on_change: list[Callable[[Change], None]] = field(default_factory=list)
    _objects: dict[str, dict[tuple[str, str], Manifest]] = field(default_factory=dict)
    _uids: Iterator[int] = field(default_factory=itertools.count)

    @property
    def revision(self) -> int:
        return len(self.changes) + 1

    def get(self, path: str, accept: str = "") -> Answer:
        place = _place(path)
        if place.name:
            return self._one(place)
        return Answer(200, self._list(place))

    def post(self, path: str, body: Manifest) -> Answer:
        path, _, query = path.partition("?")
        place = _place(path)
        if place.sub == "binding":
            return self._bind(place, body)
        return self._create(place._replace(name=body["metadata"]["name"]), body, dry_run=query == DRY_RUN)

    def put(self, path: str, body: Manifest) -> Answer:
        place = _place(path)
        return self._found(place, lambda old: self._put(place, old, body))

    def merge(self, path: str, body: Manifest) -> Answer:
        place = _place(path)
        return self._found(place, lambda old: self._store(place, old, _merged(old, body)))

    def apply(self, path: str, body: Manifest) -> Answer:
        """Server-side apply by a single manager that owns all fields."""
        place = _place(path)
        old = self._collection(place.plural).get((place.namespace, place.name))
        if old is None:
            return self._create(place, body)
        return self._store(place, old, _merged(old, body))

    def delete(self, path: str, body: Manifest | None = None) -> Answer:
        place = _place(path)
        return self._found(place, lambda old: self._delete(place, old, body or {}))

    def send(self, method: str, path: str, body: Manifest | None = None, content_type: str = "") -> Answer:
        match method:
            case "GET":
                return self.get(path)
            case "POST":
                return self.post(path, body or {})
            case "PUT":
                return self.put(path, body or {})
            case "DELETE":
                return self.delete(path, body)
            case _ if content_type == APPLY:
                return self.apply(path, body or {})
            case _:
                return self.merge(path, body or {})

    @contextmanager
    def heard(self, hear: Callable[[Change], None]) -> Iterator[None]:
        """Tell of each change for as long as the block lasts."""
        self.on_change.append(hear)
        try:
            yield
        finally:
            self.on_change.remove(hear)

    def since(self, plural: str, revision: int) -> list[Change] | None:
        """What a watch of all namespaces is told; None if that is too long ago."""
        if revision < self.compacted:
            return None
        return [change for change in self.changes[revision - 1 :] if change.plural == plural]

    def all(self, plural: str) -> list[Manifest]:
        return list(self._collection(plural).values())

    def _collection(self, plural: str) -> dict[tuple[str, str], Manifest]:
        return self._objects.setdefault(plural, {})

    def _one(self, place: Place) -> Answer:
        return self._found(place, lambda old: Answer(200, copied(old)))

    def _list(self, place: Place) -> Manifest:
        inside = [
            copied(one)
            for (namespace, _), one in sorted(self._collection(place.plural).items())
            if place.namespace in ("", namespace)
        ]
        return {"kind": "List", "items": inside, "metadata": {"resourceVersion": str(self.revision)}}

    def _create(self, place: Place, body: Manifest, *, dry_run: bool = False) -> Answer:
        if (place.namespace, place.name) in self._collection(place.plural):
            return _refusal(409, "AlreadyExists")
        if place.plural == "pods" and self._live_pods(place.namespace) >= self.quota:
            return _refusal(403, "Forbidden", f'pods "{place.name}" is forbidden: exceeded quota: few')
        new = copied(body)
        new.setdefault("kind", KINDS[place.plural])
        if place.plural == "rljobs":
            new.pop("status", None)
        if place.plural == "pods":
            new["status"] = {"phase": "Pending"}
        new["metadata"] |= {
            "namespace": place.namespace,
            "uid": f"uid-{next(self._uids)}",
            "creationTimestamp": self.clock(),
        }
        if place.plural in MARKED:
            new["metadata"]["generation"] = 1
        return Answer(201, new) if dry_run else self._keep(place, "ADDED", new, 201)

    def _live_pods(self, namespace: str) -> int:
        pods = self._collection("pods").items()
        return sum(where == namespace and one["status"]["phase"] not in OVER for (where, _), one in pods)

    def _put(self, place: Place, old: Manifest, body: Manifest) -> Answer:
        version = body["metadata"].get("resourceVersion", "")
        if version and version != old["metadata"]["resourceVersion"]:
            return _refusal(409, "Conflict")
        if place.sub == "status":
            return self._store(place, old, {**old, "status": copied(body.get("status", {}))})
        said = {key: copied(value) for key, value in body.items() if key not in ("metadata", "status")}
        return self._store(place, old, old | said)

    def _store(self, place: Place, old: Manifest, new: Manifest) -> Answer:
        """Nothing happens when nothing changed."""
        if new == old:
            return Answer(200, copied(old))
        if place.plural == "persistentvolumeclaims" and _size(new) < _size(old):
            return _refusal(422, "Invalid", "field can not be less than status.capacity")
        if place.plural in MARKED and new.get("spec") != old.get("spec"):
            generation = old["metadata"]["generation"] + 1
            new = {**new, "metadata": {**new["metadata"], "generation": generation}}
        return self._keep(place, "MODIFIED", new, 200)

    def _bind(self, place: Place, body: Manifest) -> Answer:
        def bind(old: Manifest) -> Answer:
            if old["spec"].get("nodeName"):
                return _refusal(409, "Conflict")
            placed = {**old["spec"], "nodeName": body["target"]["name"]}
            self._store(place, old, {**old, "spec": placed})
            return Answer(201, {"kind": "Status", "status": "Success"})

        return self._found(place, bind)

    def _delete(self, place: Place, old: Manifest, options: Manifest) -> Answer:
        uid = options.get("preconditions", {}).get("uid")
        if uid and uid != old["metadata"]["uid"]:
            return _refusal(409, "Conflict")
        if place.plural == "pods":
            old = self._going(place, old, options)
            if old["metadata"]["deletionGracePeriodSeconds"] > 0:
                return Answer(200, copied(old))
        del self._collection(place.plural)[place.namespace, place.name]
        last = self._numbered(old)
        self._tell(place, "DELETED", last)
        return Answer(200, copied(last))

    def _going(self, place: Place, pod: Manifest, options: Manifest) -> Manifest:
        """The pod, asked to go: at once if it has no node, has ended, or that is what is asked for."""
        over = pod["status"].get("phase") in OVER
        at_once = over or not pod["spec"].get("nodeName") or options.get("gracePeriodSeconds") == 0
        grace = options.get("gracePeriodSeconds", pod["spec"]["terminationGracePeriodSeconds"])
        asked = {"deletionTimestamp": self.clock(), "deletionGracePeriodSeconds": grace} | pod["metadata"]
        if at_once:
            asked["deletionGracePeriodSeconds"] = 0
        self._store(place, pod, {**pod, "metadata": asked})
        return self._collection(place.plural)[place.namespace, place.name]

    def _keep(self, place: Place, kind: str, new: Manifest, code: int) -> Answer:
        new = self._numbered(new)
        self._collection(place.plural)[place.namespace, place.name] = new
        self._tell(place, kind, new)
        return Answer(code, copied(new))

    def _numbered(self, new: Manifest) -> Manifest:
        return {**new, "metadata": {**new["metadata"], "resourceVersion": str(self.revision + 1)}}

    def _tell(self, place: Place, kind: str, new: Manifest) -> None:
        change = Change(self.revision + 1, place.plural, kind, new)
        self.changes.append(change)
        for hear in self.on_change:
            hear(change)

    def _found(self, place: Place, then: Callable[[Manifest], Answer]) -> Answer:
        old = self._collection(place.plural).get((place.namespace, place.name))
        return _refusal(404, "NotFound") if old is None else then(old)


def copied(part: Any) -> Any:
    """As over the wire: nothing is shared. Many times as fast as `copy.deepcopy`, which most of the time went into."""
    if isinstance(part, dict):
        return {
            key: copied(value) if isinstance(value, (dict, list)) else value for key, value in part.items()
        }
    return [copied(one) for one in part] if isinstance(part, list) else part


@cache
def _place(path: str) -> Place:
    found = PATH.match(path)
    assert found, path
    return Place(found["plural"], found["namespace"] or "", found["name"] or "", found["sub"] or "")


def _refusal(code: int, reason: str, message: str = "") -> Answer:
    told = {"kind": "Status", "status": "Failure", "code": code, "reason": reason}
    return Answer(code, told | {"message": message or reason})


def _size(claim: Manifest) -> Decimal:
    return Decimal(parse_quantity(claim["spec"]["resources"]["requests"]["storage"]))


def _merged(old: Manifest, patch: Manifest) -> Manifest:
    """JSON merge patch."""
    new: Manifest = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict) and isinstance(new.get(key), dict):
            new[key] = _merged(new[key], value)
        else:
            new[key] = copied(value)
    return new
