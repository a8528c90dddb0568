"""Everything that belongs to jobs, as the watches and our own writes tell it. `kubernetes.py` observes from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rljob_api.base import GROUP, Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob

from ..observed import Pod, PodPhase
from ..queue import Key
from .objects import Known, Objects, job_of
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
        self._unasked: set[str] = set()
        """UIDs of pods that ended before anybody told them to go."""
        self._departed: dict[Key, dict[str, Known[PodFacts | None]]] = {}
        self._vanished: dict[Key, Known[PodFacts | None]] = {}
        """The last trainer that went without a word before any other of its attempt had ended."""

    def gone(self, key: Key, known: Known[PodFacts | None]) -> None:
        """Trainers that ended are remembered for as long as their attempt: how the first one ended explains it. So is
        that one vanished before."""
        self.asked_to_go.discard(known.uid)
        facts = known.facts
        if facts is not None and facts.pod.role is RoleName.TRAINER:
            if facts.pod.ended:
                pod = replace(facts.pod, terminating=known.uid not in self._unasked)
                self._departed.setdefault(key, {})[known.uid] = replace(known, facts=replace(facts, pod=pod))
            elif not any(pod.ended for pod in self._gang(key, known.owner, facts.pod.attempt)):
                self._vanished[key] = known
        self._unasked.discard(known.uid)

    def observed(self, job: RLJob) -> Iterator[Pod]:
        """The job's own; those that we deleted are going even before the watch says so."""
        attempt = job.attempt_number
        for known in self._own(job):
            if known.facts is not None:
                pod = known.facts.pod
                yield replace(pod, terminating=True) if known.uid in self.asked_to_go else pod
        for known in self._departed.get(key_of(job), {}).values():
            if known.facts is not None and known.facts.pod.attempt == attempt and _is(known, job):
                yield known.facts.pod

    def has_vanished(self, job: RLJob) -> bool:
        """A trainer of the attempt went without a word before any other had ended, and is not there again."""
        key = key_of(job)
        known = self._vanished.get(key)
        if known is None or known.facts is None or not _is(known, job):
            return False
        return known.facts.pod.attempt == job.attempt_number and known.name not in self.of(key)

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
        vanished = self._vanished.pop(key, None)
        if before_attempt is None:
            return
        kept = {uid: one for uid, one in departed.items() if _attempt(one) >= before_attempt}
        if kept:
            self._departed[key] = kept
        if vanished is not None and _attempt(vanished) >= before_attempt:
            self._vanished[key] = vanished

    def _keep(self, manifest: Manifest) -> None:
        """Whoever removes a pod that has ended marks it as told to go: that says nothing of its end."""
        known = self.of(job_of(manifest)).get(manifest["metadata"]["name"])
        if known is not None and known.facts is not None:
            pod = known.facts.pod
            if pod.ended and not pod.terminating:
                self._unasked.add(pod.uid)
        super()._keep(manifest)

    def _gang(self, key: Key, owner: str, attempt: int) -> Iterator[Pod]:
        """Those that are there, and those that were."""
        for known in (*self.of(key).values(), *self._departed.get(key, {}).values()):
            if known.facts is not None and known.owner == owner:
                pod = known.facts.pod
                if (pod.role, pod.attempt) == (RoleName.TRAINER, attempt):
                    yield pod

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


def _attempt(known: Known[PodFacts | None]) -> int:
    """0 for a pod that is none of ours."""
    return known.facts.pod.attempt if known.facts is not None else 0


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
