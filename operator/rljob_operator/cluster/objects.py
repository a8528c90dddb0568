"""The newest known version of every object of one kind, by job.

Two tell of an object: the watch, and the answers to our own writes. So a pass always sees what the pass before wrote,
and an answer that the watch has overtaken changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rljob_api.base import Manifest

from .. import names
from ..queue import Key

T = TypeVar("T")


@dataclass(slots=True)
class Known(Generic[T]):
    """One object."""

    name: str
    uid: str
    owner: str
    """UID of the job that it belongs to; empty if it belongs to none."""
    version: int
    facts: T
    """What is kept of it."""


class Objects(Generic[T]):
    """A watch's sink. `changed` is called with the job of each object whose facts changed."""

    def __init__(self, read: Callable[[Manifest], T], changed: Callable[[Key], None]) -> None:
        self._read = read
        self._changed = changed
        self._by_job: dict[Key, dict[str, Known[T]]] = {}
        self._places: dict[str, Key] = {}
        """Where each is in there, by its UID: somebody may change its label."""
        self._reached: dict[str, int] = {}
        """Up to which version the watch has told everything, by scope."""

    def of(self, key: Key) -> dict[str, Known[T]]:
        """Objects that carry the job's name, by their own; not all need be the job's."""
        return self._by_job.get(key, {})

    def written(self, manifest: Manifest) -> None:
        """The answer to a write of ours."""
        if _version(manifest) > self._seen(manifest["metadata"]["namespace"]):
            self._keep(manifest)

    def changed(self, manifest: Manifest) -> None:
        self._keep(manifest)

    def sweep(self, scope: str, present: set[str], version: int) -> None:
        for key, one in self._inside(scope):
            if one.uid not in present and one.version <= version:
                self._drop(key, one)
        self._reached[scope] = max(version, self._reached.get(scope, 0))

    def deleted(self, manifest: Manifest) -> None:
        uid = manifest["metadata"]["uid"]
        if uid in self._places:
            self._keep(manifest)
            key = self._places[uid]
            self._drop(key, self.of(key)[manifest["metadata"]["name"]])

    def reached(self, scope: str, version: int) -> None:
        self._reached[scope] = version

    def gone(self, key: Key, known: Known[T]) -> None:
        """For those who want to know what an object was before it went."""

    def _seen(self, namespace: str) -> int:
        return max(self._reached.get(namespace, 0), self._reached.get("", 0))

    def _inside(self, scope: str) -> list[tuple[Key, Known[T]]]:
        return [
            (key, one)
            for key, objects in self._by_job.items()
            if scope in ("", key[0])
            for one in objects.values()
        ]

    def _keep(self, manifest: Manifest) -> None:
        """Unless a newer version is known. What has another job's name now is the other's, and gone from the first."""
        metadata = manifest["metadata"]
        key, version = job_of(manifest), _version(manifest)
        place = self._places.get(metadata["uid"], key)
        elsewhere = self.of(place)[metadata["name"]] if place != key else None
        before = self.of(key).get(metadata["name"])
        if any(known is not None and known.version >= version for known in (before, elsewhere)):
            return
        if elsewhere is not None:
            self._drop(place, elsewhere)
        same = before is not None and before.uid == metadata["uid"]
        facts = self._read(manifest)
        self._put(key, Known(metadata["name"], metadata["uid"], owner_of(manifest), version, facts))
        if not same and before is not None:
            del self._places[before.uid]
            self.gone(key, before)
        if before is None or not same or before.facts != facts:
            self._changed(key)

    def _put(self, key: Key, known: Known[T]) -> None:
        objects = self._by_job.setdefault(key, {})
        other = next(iter(objects.values()), None)
        objects[known.name] = known
        # One key in memory for all of a job's.
        self._places[known.uid] = self._places[other.uid] if other else key

    def _drop(self, key: Key, known: Known[T]) -> None:
        objects = self._by_job[key]
        del objects[known.name], self._places[known.uid]
        if not objects:
            del self._by_job[key]
        self.gone(key, known)
        self._changed(key)


def job_of(manifest: Manifest) -> Key:
    """By its label, which is what it was found by."""
    metadata = manifest["metadata"]
    return metadata["namespace"], metadata["labels"][names.LABEL_NAME]


def _version(manifest: Manifest) -> int:
    """Versions of one kind can be compared: Kubernetes says so since 1.35."""
    return int(manifest["metadata"]["resourceVersion"])


def owner_of(manifest: Manifest) -> str:
    owners = manifest["metadata"].get("ownerReferences", [])
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")
