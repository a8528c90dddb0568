"""Everything that belongs to jobs, as the watches and our own writes tell it. `kubernetes.py` observes from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rljob_api.base import GROUP, Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob

from ..observed import Pod, PodPhase
from ..queue import Key
from .objects import Known, Objects
from .pods import observed_pod, pod_address
from .resources import METADATA_KINDS

APPLIED = f"{GROUP}/applied"
"""Annotation: digest of what was applied, so that the same is not applied again."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is kept of a pod."""

    pod: Pod
    address: str
    """Its IP address; empty until it has one."""


class Pods(Objects[PodFacts | None]):
    """Facts are None for a pod that carries a job's name but is none of ours."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        super().__init__(_pod_facts, changed)
        self.asked_to_go: set[str] = set()
        """UIDs of pods that we deleted and that the watch has not told of yet."""
        self._departed: dict[Key, dict[str, Known[PodFacts | None]]] = {}

    def gone(self, key: Key, known: Known[PodFacts | None]) -> None:
        """Trainers that ended are remembered for as long as their attempt: how the first one ended explains it."""
        self.asked_to_go.discard(known.uid)
        facts = known.facts
        if facts is not None and facts.pod.role is RoleName.TRAINER and facts.pod.ended:
            self._departed.setdefault(key, {})[known.uid] = known

    def observed(self, job: RLJob) -> Iterator[Pod]:
        """The job's own; those that we deleted are going even before the watch says so."""
        attempt = job.attempt_number
        for known in self._own(job):
            if known.facts is not None:
                pod = known.facts.pod
                yield replace(pod, terminating=True) if known.uid in self.asked_to_go else pod
        for known in self._departed.get(key_of(job), {}).values():
            if known.facts is not None and known.facts.pod.attempt == attempt and _is(known, job):
                yield replace(known.facts.pod, terminating=True)

    def stays(self, key: Key, pod: Pod) -> bool:
        """It is there, and we have not asked it to go."""
        known = self.of(key).get(pod.name)
        return known is not None and known.uid == pod.uid and pod.uid not in self.asked_to_go

    def was_asked_to_go(self, key: Key, pod: Pod) -> None:
        """By us. If the watch has told of its end meanwhile, there is nothing left to remember."""
        if self.stays(key, pod):
            self.asked_to_go.add(pod.uid)

    def leader_address(self, job: Key, uid: str) -> str:
        """Where the job's rank 0 serves; empty if it does not run."""
        for known in self.of(job).values():
            facts = known.facts
            if facts is not None and known.owner == uid and _leads(facts.pod):
                return facts.address
        return ""

    def forget(self, key: Key, before_attempt: int | None = None) -> None:
        """Departed pods of older attempts; of all, without a number."""
        departed = self._departed.pop(key, {})
        if before_attempt is None:
            return
        kept = {
            uid: one for uid, one in departed.items() if one.facts and one.facts.pod.attempt >= before_attempt
        }
        if kept:
            self._departed[key] = kept

    def _own(self, job: RLJob) -> Iterator[Known[PodFacts | None]]:
        return (known for known in self.of(key_of(job)).values() if _is(known, job))


class Children:
    def __init__(self, changed: Callable[[Key], None]) -> None:
        self.pods = Pods(changed)
        self.metadata: dict[str, Objects[str]] = {kind: Objects(_applied, changed) for kind in METADATA_KINDS}
        """By kind; what is kept is the digest in the annotation."""


def key_of(job: RLJob) -> Key:
    return job.metadata.namespace, job.metadata.name


def _is(known: Known[PodFacts | None], job: RLJob) -> bool:
    return known.owner == job.metadata.uid


def _leads(pod: Pod) -> bool:
    leader = pod.role is RoleName.TRAINER and pod.index == 0
    return leader and (pod.phase is PodPhase.RUNNING or bool(pod.initializing))


def _pod_facts(manifest: Manifest) -> PodFacts | None:
    try:
        return PodFacts(observed_pod(manifest), pod_address(manifest))
    except (KeyError, ValueError):  # somebody else's pod under our label
        return None


def _applied(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("annotations", {}).get(APPLIED, ""))
