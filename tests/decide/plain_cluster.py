"""A cluster of plain values for the pure core: what is, what the operator knows of it, and what its writes may meet.

The operator hears of its own writes at once, and of everything else when the news are delivered, or by a list.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from builders import PLENTY
from invariants import Invariant, Record
from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.status import Status
from rljob_operator.cluster.client import ApiError
from rljob_operator.names import LABEL_ATTEMPT, LABEL_INDEX, LABEL_ROLE
from rljob_operator.observed import Observed, Pod, PodPhase, Refusal


class DiedError(Exception):
    """The operator did, in the middle of a pass."""


@dataclass(frozen=True)
class Kept:
    """One version of something; without a value it is gone."""

    version: int
    value: Pod | RLJob | str | None
    """A string stands for a ConfigMap."""


@dataclass
class PlainCluster:
    """As `reconcile` sees one."""

    job: RLJob
    dice: random.Random
    now: float
    trouble: float = 0.0
    """Chance of a write to be refused, to be done without an answer, or to be the last one of this operator."""
    quota: int = PLENTY
    record: Record = field(default_factory=Record)
    writes: int = 0
    known: dict[str, Kept] = field(default_factory=dict)
    _is: dict[str, Kept] = field(default_factory=dict)
    _news: deque[tuple[str, Kept]] = field(default_factory=deque)
    _departed: dict[str, Pod] = field(default_factory=dict)
    _vanished: int = 0
    """The last attempt of which a trainer went before any was known to have ended."""
    _refusal: Refusal | None = None
    _version: int = 0

    def __post_init__(self) -> None:
        self.change("job", self.job)
        self.hear_all()

    # What is

    @property
    def pods(self) -> list[Pod]:
        return [kept.value for kept in self._is.values() if isinstance(kept.value, Pod)]

    def pod(self, name: str) -> Pod | None:
        """As it is."""
        kept = self._is.get(name)
        return kept.value if kept is not None and isinstance(kept.value, Pod) else None

    def has(self, name: str) -> bool:
        return name in self._is

    def change(self, name: str, value: Pod | RLJob | str | None) -> Kept:
        """It is so from now on, and news of it are on their way."""
        self._version += 1
        kept = Kept(self._version, value)
        if value is None:
            del self._is[name]
        else:
            self._is[name] = kept
        if isinstance(value, RLJob):
            self._judge_attempt(value)
            self.job = value
        if isinstance(value, Pod) and value.phase is PodPhase.RUNNING:
            self._judge_gang()
        self._news.append((name, kept))
        return kept

    # What the operator knows

    @property
    def known_job(self) -> RLJob:
        job = self.known["job"].value
        assert isinstance(job, RLJob)
        return job

    def hear(self) -> None:
        """The oldest news; some come twice."""
        if self._news:
            name, kept = self._news[0] if self.dice.random() < 0.1 else self._news.popleft()
            self._know(name, kept)

    def hear_all(self) -> None:
        """A list: also of what went while nobody listened."""
        self._news.clear()
        for name, kept in self._is.items():
            self._know(name, kept)
        for name in [name for name in self.known if name not in self._is]:
            self._know(name, Kept(self._version, None))

    def die(self) -> None:
        """Another operator begins with empty hands, and a list."""
        self.known, self._departed, self._vanished, self._refusal = {}, {}, 0, None
        self.hear_all()

    def _know(self, name: str, kept: Kept) -> None:
        before = self.known.get(name)
        if before is not None and before.version >= kept.version:
            return
        if kept.value is not None:
            self.known[name] = kept
            return
        gone = self.known.pop(name, None)
        if gone is not None and isinstance(gone.value, Pod):
            self._remember(gone.value)

    def _remember(self, pod: Pod) -> None:
        if pod.ended:
            self._departed[pod.name] = pod
        elif pod.role is RoleName.TRAINER and not any(one.ended for one in self._trainers(pod.attempt)):
            self._vanished = pod.attempt

    def _trainers(self, attempt: int) -> list[Pod]:
        """That are known, or were."""
        known = [kept.value for kept in self.known.values() if isinstance(kept.value, Pod)]
        every = [*known, *self._departed.values()]
        return [pod for pod in every if (pod.role, pod.attempt) == (RoleName.TRAINER, attempt)]

    async def observe(self, job: RLJob) -> Observed:
        attempt = job.attempt_number
        known = [kept.value for kept in self.known.values() if isinstance(kept.value, Pod)]
        departed = [
            pod for pod in self._departed.values() if (pod.role, pod.attempt) == (RoleName.TRAINER, attempt)
        ]
        maps = [kept.value for kept in self.known.values() if isinstance(kept.value, str)]
        pods = tuple(sorted([*known, *departed], key=lambda pod: pod.name))
        vanished = self._vanished == attempt
        return Observed(pods, vanished, run_config_maps=frozenset(maps), refusal=self._refusal)

    # What the operator does

    async def apply(self, job: RLJob, manifests: Iterable[Manifest]) -> Refusal | None:
        """Pods, then the ConfigMap: of what surrounds them nothing is decided by."""
        wanted = [one for one in manifests if one["metadata"]["name"] not in self.known]
        for kind, make in (("Pod", self._make_pod), ("ConfigMap", self._make_map)):
            for manifest in wanted:
                if manifest["kind"] == kind and self._refused(kind, manifest["metadata"]["name"]):
                    return self._refusal
                if manifest["kind"] == kind:
                    made = self._write(make, manifest)
                    self._know(manifest["metadata"]["name"], made)
        self._refusal = None
        return None

    async def restore(self, job: RLJob, manifests: Iterable[Manifest]) -> Refusal | None:
        """Nothing goes of itself here."""
        self._refusal = None
        return None

    async def delete(self, job: RLJob, pods: Iterable[Pod]) -> None:
        for pod in pods:
            self._write(self._ask_to_go, pod)
            kept = self.known.get(pod.name)
            if kept is not None and isinstance(kept.value, Pod):
                self.known[pod.name] = replace(kept, value=replace(kept.value, terminating=True))

    async def delete_job(self, job: RLJob) -> None:
        raise NotImplementedError("no job here has a time to live")

    async def write_status(self, job: RLJob, status: Status) -> None:
        self.known["job"] = self._write(self._put_status, status)

    def _write(self, do: Callable[..., Kept], *what: object) -> Kept:
        """Raises `ApiError` or `DiedError`, as chance will have it."""
        happens = self.dice.random() < self.trouble
        fate = self.dice.choice(["refused", "lost", "died"]) if happens else "answered"
        if fate == "refused":
            raise ApiError(self.dice.choice([409, 429, 500]), "ByChance", "")
        kept = do(*what)
        self.writes += 1
        if fate == "died":
            raise DiedError
        if fate == "lost":
            raise ApiError(0, "TimeoutError", "")
        return kept

    def _refused(self, kind: str, name: str) -> bool:
        living = sum(not pod.ended for pod in self.pods)
        if kind != "Pod" or self.has(name) or living < self.quota:
            return False
        since = self._refusal.since if self._refusal else self.now
        self._refusal = Refusal("Pod", name, 403, "Forbidden", "exceeded quota: few", since)
        return True

    def _make_pod(self, manifest: Manifest) -> Kept:
        metadata = manifest["metadata"]
        name, labels = metadata["name"], metadata["labels"]
        if self.has(name):  # an answer was lost
            return self._is[name]
        role, index = RoleName(labels[LABEL_ROLE]), int(labels[LABEL_INDEX])
        attempt = int(labels[LABEL_ATTEMPT])
        pod = Pod(name, f"uid-{self._version}", role, index, attempt, created_at=self.now)
        self._judge_new_pod(pod)
        return self.change(name, pod)

    def _make_map(self, manifest: Manifest) -> Kept:
        name = manifest["metadata"]["name"]
        return self._is[name] if self.has(name) else self.change(name, name)

    def _ask_to_go(self, asked: Pod) -> Kept:
        pod = self.pod(asked.name)
        if pod is None or pod.uid != asked.uid:
            return Kept(0, None)
        if pod.ended or not pod.node:
            return self.change(pod.name, None)
        return self.change(pod.name, replace(pod, terminating=True, gone_by=self.now + 30))

    def _put_status(self, status: Status) -> Kept:
        if self.known["job"].version != self._is["job"].version:
            raise ApiError(409, "Conflict", "the job has changed")
        return self.change("job", self.job.model_copy(update={"status": status}))

    # What must never be

    def _judge_new_pod(self, pod: Pod) -> None:
        if pod.attempt > self.job.attempt_number:
            self.record.note(Invariant.ATTEMPTS_ARE_WRITTEN_FIRST, pod.name)
        twins = [one.name for one in self.pods if one.index == pod.index and _is_twin(one, pod)]
        if twins:
            self.record.note(Invariant.ONE_LIVE_POD, f"{twins} beside {pod.name}")

    def _judge_gang(self) -> None:
        running = [pod for pod in self.pods if pod.phase is PodPhase.RUNNING]
        attempts = {pod.attempt for pod in running if pod.role is RoleName.TRAINER}
        if len(attempts) > 1:
            self.record.note(Invariant.ONE_ATTEMPT_TRAINS, str(attempts))

    def _judge_attempt(self, job: RLJob) -> None:
        if job.attempt_number < self.job.attempt_number:
            self.record.note(Invariant.ATTEMPTS_RISE, f"to {job.attempt_number}")


def _is_twin(one: Pod, pod: Pod) -> bool:
    alike = one.role is pod.role and (one.role is RoleName.ROLLOUT or one.attempt == pod.attempt)
    return alike and not one.ended and not one.terminating
