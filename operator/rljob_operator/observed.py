"""The cluster now, as plain frozen values. Made by a cluster's `observe`, read by `decide` and `status`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from rljob_api.failure import RoleName
from rljob_api.progress import Ending, LastWords, Progress, TrainPhase
from rljob_api.status import AttemptStatus


class PodPhase(StrEnum):
    """As in core/v1."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Pod:
    """What decisions need to know of one pod. Times are seconds since the epoch."""

    name: str
    uid: str
    role: RoleName
    index: int
    attempt: int
    phase: PodPhase = PodPhase.PENDING
    ready: bool = False
    created_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    last_words: LastWords | None = None
    initializing: str = ""
    """The init container that runs now."""
    ended_in: str = ""
    """The init container that ended it, if it was one."""
    message: str = ""
    """Why it waits or how it ended, as the machine that runs it says."""
    reason: str = ""
    """The same in one CamelCase word, for example `Unschedulable`, `ErrImagePull`, `Evicted`, `OOMKilled`."""
    node: str = ""
    """Where it was placed."""
    disrupted: bool = False
    """The cluster, not the pod, ended it: its condition `DisruptionTarget` is True."""
    terminating: bool = False
    """It was asked to go."""
    grace_seconds: int | None = None
    """How long it may take to go once it is told, which a decision to delete it may shorten. Fixed when it was created;
    None where no job changes while its pods run."""
    gone_by: float | None = None
    """When its grace period ends, if it was asked to go."""

    @property
    def ended(self) -> bool:
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)

    @property
    def silent(self) -> bool:
        """It has a node, does not run, and does not say why."""
        said = self.reason or self.message or self.terminating or self.initializing
        return self.phase is PodPhase.PENDING and bool(self.node) and not said

    @property
    def complete(self) -> bool:
        """All steps ran. Exit code 0 alone does not prove it."""
        words = self.last_words
        return self.phase is PodPhase.SUCCEEDED and words is not None and words.ending is Ending.COMPLETE


@dataclass(frozen=True)
class Refusal:
    """The cluster would not create something for the job, for example because of a quota."""

    kind: str
    name: str
    code: int
    """HTTP status."""
    reason: str
    """As in metav1.Status, for example `Forbidden`."""
    message: str
    since: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class Observed:
    """One look at everything that belongs to a job."""

    pods: tuple[Pod, ...] = ()
    trainer_vanished: bool = False
    """One of the attempt's trainers went without a word before any other had ended. Only an operator that saw it
    knows."""
    progress: Progress | None = None
    """What rank 0 told last, live or as its last words."""
    listening_since: float = 0.0
    """When this operator began to ask, in seconds since the epoch: before, it could not hear."""
    run_config_maps: frozenset[str] = frozenset()
    """Attempts whose pods were asked for: a pod is missing only if its attempt's ConfigMap is there."""
    refusal: Refusal | None = None
    """What it said to the last pass that asked for something; None once a pass was refused nothing."""

    def role(self, role: RoleName) -> tuple[Pod, ...]:
        return tuple(pod for pod in self.pods if pod.role is role)

    def leader(self, attempt: int) -> Pod | None:
        """Rank 0's pod, while it trains or is about to."""
        leaders = (pod for pod in self.role(RoleName.TRAINER) if (pod.attempt, pod.index) == (attempt, 0))
        return next((pod for pod in leaders if pod.phase is PodPhase.RUNNING and not pod.terminating), None)

    def converted(self, told: Progress) -> bool:
        """Whether this was told by a conversion that is over, beside whose pod's ranks it is out of date."""
        return told.phase is TrainPhase.CONVERT and self.leader(told.attempt) is not None


def newest_progress(
    told: Iterable[Progress | None], pods: tuple[Pod, ...], attempt: AttemptStatus | None
) -> Progress | None:
    """The latest of what rank 0 told and what ended pods said last, by attempt, then step, then heartbeat.

    Once `attempt` has begun, what the ones before it said is out of date: a new operator, which has not
    reached rank 0 yet, knows better from the status.
    """
    since = attempt.number if attempt is not None and attempt.has_begun else 0
    spoken = [pod.last_words.progress for pod in pods if pod.last_words]
    known = [one for one in (*told, *spoken) if one is not None and one.attempt >= since]
    return max(known, key=lambda one: (one.attempt, one.step, one.heartbeat), default=None)
