"""`status`: what the system last saw. Field by field as in the design of the API."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, JsonValue

from .base import Record
from .goodput import Goodput


class Phase(StrEnum):
    """For display; no logic reads it."""

    PENDING = "Pending"
    CONVERTING = "Converting"
    """The model is turned into Megatron's format; `progress.detail` says how far."""
    STARTING = "Starting"
    TRAINING = "Training"
    RESTARTING = "Restarting"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"


class ConditionType(StrEnum):
    ACCEPTED = "Accepted"
    PODS_READY = "PodsReady"
    PROGRESSING = "Progressing"
    CHECKPOINT_READY = "CheckpointReady"
    RESUME_EXACT = "ResumeExact"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILURE_TARGET = "FailureTarget"
    FAILED = "Failed"


class Condition(Record):
    """As metav1.Condition."""

    type: ConditionType
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    """One CamelCase word for programs."""
    message: str = ""
    """A sentence for people: what is wrong and what to do."""
    last_transition_time: str = ""
    observed_generation: int = 0


class Exactness(StrEnum):
    """How exactly an attempt goes on from where the one before it stopped."""

    EXACT = "Exact"
    """As if never interrupted, bit for bit."""
    LOSSLESS = "Lossless"
    """No finished step lost and order kept, but not bit for bit."""
    BEST_EFFORT = "BestEffort"
    """Something was lost; the reason says what."""

    def reaches(self, wanted: Exactness) -> bool:
        """Whether this is as good as `wanted`, or better."""
        best_first = list(Exactness)
        return best_first.index(self) <= best_first.index(wanted)


class HungStep(Record):
    """A hang of an attempt before this one, until its step is finished."""

    step: int
    """Finished steps then: it was the next one that hung."""
    phase: str
    times: int
    """Hangs there in a row."""


class AttemptStatus(Record):
    """The attempt that runs now, or the last one. It is written before any of its pods exists."""

    number: int
    generation: int = 0
    """Generation of the job that it was begun for."""
    run_config_map_name: str = ""
    token: str = ""
    """Secret-free word that fences writers on the volume: only the attempt whose token stands there may write."""
    trainer_image: str = ""
    """Image of its trainers; one that is configured later is taken up by the next attempt."""
    rollout_image: str = ""
    """The same for servers that start during the attempt."""
    storage_class_name: str = ""
    """Storage class that the job's claim was asked for with; empty for the cluster's default."""
    started_time: str = ""
    from_step: int | None = None
    """Step that this attempt went on from; absent until it is known."""
    lost_steps: int | None = None
    """Finished steps that the attempt before had to repeat."""
    exactness: Exactness | None = None
    reason: str = ""
    """Why the attempt before this one ended, or `FirstAttempt`."""
    failures_in_a_row: int = 0
    """Failures of the gang since a step was last finished: what the pause before a restart doubles with."""
    tries_in_a_row: int = 0
    """Attempts before this one that could not be placed."""
    given_back_time: str = ""
    """When it gave its pods back because it could not be placed; empty if it did not."""
    given_back_reason: str = ""
    """Why."""
    hung: HungStep | None = None
    """What hung last, so that the same step hanging again is told."""


class RoleStatus(Record):
    replicas: int = 0
    ready_replicas: int = 0
    ready: str = "0/0"
    restarts: int = 0


class Replacement(Record):
    """What became of one rollout replica so far; absent for one that never failed."""

    index: int
    serial: int
    """Pods that this replica has had before the present one."""
    failures_in_a_row: int = 0
    """Failures since a step was last finished."""
    step: int = 0
    """Finished steps at the last failure."""
    not_before: str = ""
    """The next pod waits until then."""


class RolloutStatus(RoleStatus):
    selector: str = ""
    weight_version: int | None = None
    transport: str = ""
    """What `weightSync.transport` came to."""
    replacements: list[Replacement] = []
    """Replicas that failed, by index."""


class Metric(Record):
    name: str
    value: str
    """A number as text, because it can be NaN."""


class ProgressStatus(Record):
    step: int = 0
    total_steps: int = 0
    display: str = ""
    phase: str = ""
    detail: str = ""
    """What it is busy with, until training runs."""
    estimated_remaining_seconds: int | None = None
    last_updated_time: str = ""
    metrics: list[Metric] = []


class CheckpointFacts(Record):
    """What is known of one checkpoint."""

    step: int
    time: str
    path: str
    bytes: int
    verified: bool
    has_rng: bool
    has_optimizer: bool
    layout: str
    """World layout that wrote it, for example `tp1-pp1-dp2`."""


class CheckpointStatus(Record):
    latest: CheckpointFacts | None = None
    count: int = 0
    save_seconds: float | None = None
    """How long the slowest save of the last attempt that saved took: what `onPreemption.gracePeriodSeconds` must
    cover."""


class Failure(Record):
    role: str
    rank: int
    attempt: int
    exit_code: int | None = None
    message: str = ""
    """At most 1024 characters."""
    time: str = ""


BY_TYPE_SCHEMA: dict[str, JsonValue] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
}
"""Each condition is there once, and who patches one leaves the others alone."""


class Status(Record):
    observed_generation: int = 0
    phase: Phase = Phase.PENDING
    message: str = ""
    """What is wrong and what to do, else empty."""
    backend: str = ""
    conditions: list[Condition] = Field([], json_schema_extra=BY_TYPE_SCHEMA)
    attempt: AttemptStatus | None = None
    trainer: RoleStatus = RoleStatus()
    rollout: RolloutStatus = RolloutStatus()
    progress: ProgressStatus = ProgressStatus()
    checkpoint: CheckpointStatus = CheckpointStatus()
    restarts: int = 0
    restarts_count_towards_max: int = 0
    preemptions: int = 0
    failures: list[Failure] = []
    """The newest five."""
    goodput: Goodput | None = None
    """What the job's time went into, as of the last change of the status."""
    start_time: str = ""
    """When the job started, or was last resumed: deadlines count from here."""
    running_time: str = ""
    """When training first ran since then."""
    completion_time: str = ""
    """When the job was over, and no trainer ran any more."""
