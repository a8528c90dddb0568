"""What of a job's manifests stands in the cluster already, and what stands there that nothing asks for any more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rljob_api.base import Manifest

from .. import names
from ..queue import Key
from .children import APPLIED, Children
from .objects import Known, owner_of
from .resources import METADATA_KINDS, Resource
from .writer import CREATED_ONCE

PRUNED = ("NetworkPolicy", "PodDisruptionBudget")
"""Never claims: checkpoints live there."""
RUNS_KEPT = 3
"""ConfigMaps of the newest attempts, to be looked at."""


@dataclass(frozen=True)
class Superfluous:
    """An object to delete."""

    resource: Resource
    name: str
    uid: str


class Standing:
    def __init__(self, children: Children) -> None:
        self._children = children

    def has(self, key: Key, manifest: Manifest) -> bool:
        """Whether it is there as it is wanted. Of a Secret that is not known: we never read one."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        if kind == "Pod":
            pod = self._children.pods.of(key).get(metadata["name"])
            return pod is not None and pod.owner == owner_of(manifest)
        if kind not in self._children.metadata:
            return False
        known = self._children.metadata[kind].of(key).get(metadata["name"])
        if known is None or known.owner != owner_of(manifest):
            return False
        return kind in CREATED_ONCE or known.facts == metadata["annotations"][APPLIED]

    def is_known(self, manifest: Manifest) -> bool:
        """Whether it is there, in whatever state, and carries what we once applied."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        if kind not in METADATA_KINDS:
            return False
        key = (metadata["namespace"], manifest["metadata"]["labels"][names.LABEL_NAME])
        known = self._children.metadata[kind].of(key).get(metadata["name"])
        return known is not None and bool(known.facts)

    def is_held(self, manifest: Manifest) -> bool:
        """Whether it is a Secret whose token living pods of the job have in their environment."""
        if manifest["kind"] != "Secret":  # asked for each pod of a gang: it must not look at all of them
            return False
        key = (manifest["metadata"]["namespace"], manifest["metadata"]["labels"][names.LABEL_NAME])
        pods = [known for known in self._children.pods.of(key).values() if known.owner == owner_of(manifest)]
        return any(known.facts is not None and not known.facts.pod.ended for known in pods)

    def is_gone(self, key: Key, manifest: Manifest) -> bool:
        """Whether nothing of that name is there, or that is not known: Secrets are not watched."""
        watched = self._children.metadata.get(manifest["kind"])
        return watched is None or manifest["metadata"]["name"] not in watched.of(key)

    def is_going(self, key: Key, manifest: Manifest) -> bool:
        """Whether a pod of that name is there, but on its way out."""
        known = self._children.pods.of(key).get(manifest["metadata"]["name"])
        if known is None or manifest["kind"] != "Pod":
            return False
        going = known.facts is not None and known.facts.pod.terminating
        return going or known.uid in self._children.pods.asked_to_go

    def superfluous(self, key: Key, uid: str, wanted: Iterable[Manifest]) -> Iterator[Superfluous]:
        """What belongs to the job of that UID and is not among `wanted`, which must be all that surrounds its pods."""
        asked = {(one["kind"], one["metadata"]["name"]) for one in wanted}
        for kind in PRUNED:
            for known in self._own(kind, key, uid):
                if (kind, known.name) not in asked:
                    yield Superfluous(METADATA_KINDS[kind], known.name, known.uid)
        for known in self._old_runs(key, uid):
            yield Superfluous(METADATA_KINDS["ConfigMap"], known.name, known.uid)

    def _old_runs(self, key: Key, uid: str) -> list[Known[str]]:
        """ConfigMaps of attempts that are neither new nor mounted by a pod: rollouts outlive attempts. A copy that
        somebody made of one has its label and its owner, and another name: it is nobody's to delete."""
        pods = self._children.pods.of(key).values()
        mounted = {known.facts.pod.attempt for known in pods if known.facts is not None}
        own = self._own("ConfigMap", key, uid)
        runs = {
            number: known for known in own if (number := names.attempt_of(key[1], known.name)) is not None
        }
        return [runs[number] for number in sorted(runs)[:-RUNS_KEPT] if number not in mounted]

    def _own(self, kind: str, key: Key, uid: str) -> list[Known[str]]:
        return [known for known in self._children.metadata[kind].of(key).values() if known.owner == uid]


def signed(manifest: Manifest) -> Manifest:
    """With a digest of itself, for what is applied rather than created."""
    if manifest["kind"] in CREATED_ONCE:
        return manifest
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED: digest}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}
