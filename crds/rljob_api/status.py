"""`status`: what the system last saw. Field by field as in the design of the API."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, JsonValue

from .base import Record
from .goodput import Goodput


class Phase(StrEnum):
    """For display; no logic reads it."""

    PENDING = "Pending"
    """Pods are not there yet: `message` says what they wait for."""
    CONVERTING = "Converting"
    """The model is turned into Megatron's format; `progress.detail` says how far."""
    STARTING = "Starting"
    """Pods run, training does not yet: `progress.detail` says what they are busy with."""
    TRAINING = "Training"
    """Steps are being made."""
    RESTARTING = "Restarting"
    """The trainer gang is between two attempts."""
    SUSPENDING = "Suspending"
    """`suspend` is true: pods save and stop."""
    SUSPENDED = "Suspended"
    """`suspend` is true, and nothing runs."""
    COMPLETE = "Complete"
    """All steps ran."""
    FAILED = "Failed"
    """The job is over before its last step: `message` says why."""


class ConditionType(StrEnum):
    """What `status` of a condition is about. `True` is good, but for `FailureTarget` and `Failed`."""

    ACCEPTED = "Accepted"
    """The spec can be carried out; if not, a person has to change it, or what the cluster refuses, or the operator
    fails at the job."""
    PODS_READY = "PodsReady"
    """All trainers and rollout servers are ready."""
    PROGRESSING = "Progressing"
    """An attempt runs, or starts; the reason of `False` says what stands between."""
    CHECKPOINT_READY = "CheckpointReady"
    """There is a checkpoint, and nothing is wrong with it; `checkpoint.latest.verified` says if it was read back."""
    RESUME_EXACT = "ResumeExact"
    """The attempt went on bit for bit; `Unknown` until it went on from a checkpoint, `False` before if it cannot come:
    no job on GPUs does, which is told where `resume.exactness` asks for it."""
    SUSPENDED = "Suspended"
    """`suspend` is true, and nothing runs any more."""
    SUCCESS_CRITERIA_MET = "SuccessCriteriaMet"
    """Every rank finished all steps: `Complete` follows once no trainer runs."""
    COMPLETE = "Complete"
    """The job is over, and all its steps ran. It stays so."""
    FAILURE_TARGET = "FailureTarget"
    """The job is to fail: `Failed` follows once no trainer runs, but for those whose node is silent."""
    FAILED = "Failed"
    """The job is over, and failed. It stays so."""


class Condition(Record):
    """As metav1.Condition."""

    type: ConditionType
    """What it is about."""
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    """One CamelCase word for programs."""
    message: str = ""
    """A sentence for people: what is wrong and what to do."""
    last_transition_time: str = ""
    """When `status` last changed."""
    observed_generation: int = 0
    """Generation of the job that it was told of: the newest, in all conditions alike."""


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
    """What the ranks did then, as in `progress.phase`."""
    times: int
    """Hangs there in a row."""


class AttemptStatus(Record):
    """The attempt that runs now, or the last one. It is written before any of its pods exists."""

    number: int
    """Counted from 1; pods of the attempt carry it."""
    generation: int = 0
    """Generation of the job that it was begun for."""
    run_config_map_name: str = ""
    """ConfigMap that its pods read their settings from."""
    token: str = ""
    """Secret-free word that fences writers on the volume: only the attempt whose token stands there may write."""
    trainer_image: str = ""
    """Image of its trainers; one that is configured later is taken up by the next attempt."""
    rollout_image: str = ""
    """The same for servers that start during the attempt."""
    storage_class_name: str = ""
    """Storage class that the job's claim was asked for with; empty for the cluster's default."""
    started_time: str = ""
    """When it began."""
    from_step: int | None = None
    """Step that this attempt went on from; absent until it is known."""
    lost_steps: int | None = None
    """Finished steps that this attempt has to repeat; absent where it cannot be known, as after a power cut."""
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

    @property
    def has_begun(self) -> bool:
        """Whether its trainers have told where they go on from: their preparations are over."""
        return self.from_step is not None


class RoleStatus(Record):
    """The pods of a role."""

    replicas: int = 0
    """Pods that have not ended."""
    ready_replicas: int = 0
    """Pods that are ready, and not told to go."""
    ready: str = "0/0"
    """Ready pods of those wanted, for display."""
    restarts: int = 0
    """How often the trainer gang was started anew; for rollouts, how many servers were replaced."""


class Replacement(Record):
    """What became of one rollout replica so far; absent for one that was never replaced."""

    index: int
    """Which replica, from 0."""
    serial: int
    """Pods that this replica has had before the present one."""
    failures_in_a_row: int = 0
    """Failures since a step was last finished."""
    step: int = 0
    """Finished steps at the last failure."""
    not_before: str = ""
    """The next pod waits until then."""


class RolloutStatus(RoleStatus):
    """The rollout servers."""

    selector: str = ""
    """Labels of their pods, for the scale subresource."""
    weight_version: int | None = None
    """Finished steps in the weights that they answer with."""
    transport: str = ""
    """What `weightSync.transport` came to."""
    present: list[int] = []
    """Replicas that have a pod which was not told to go, by index: one that has none later was taken by others."""
    replacements: list[Replacement] = []
    """Replicas that failed or were taken, by index."""


class Metric(Record):
    """A number of the last finished step."""

    name: str
    """For example `reward`."""
    value: str
    """A number as text, because it can be NaN."""


class ProgressStatus(Record):
    """What rank 0 tells of the training."""

    step: int = 0
    """Finished steps."""
    total_steps: int = 0
    """Steps of the whole job, `algorithm.grpo.maxSteps`."""
    display: str = ""
    """Both, for display."""
    phase: str = ""
    """What the ranks do now: `Convert`, `Prepare`, `Load`, `Generate`, `Reward`, `Train`, `Wait`, `Sync`, `Evaluate`,
    `Save`, `Export` or `Done`; empty while none runs, but after `Done`."""
    detail: str = ""
    """What it is busy with until training runs, and what it waits for while rollout servers are too few."""
    estimated_remaining_seconds: int | None = None
    """From the pace of the last steps; absent until there are some, and while no rank runs."""
    last_updated_time: str = ""
    """When any of this last changed."""
    metrics: list[Metric] = []
    """Of the last finished step."""


class CheckpointFacts(Record):
    """What is known of one checkpoint."""

    step: int
    """Finished steps in it."""
    time: str
    """When it was whole."""
    path: str
    """Its directory, as pods see it."""
    bytes: int
    """Size of all its files."""
    verified: bool
    """Whether all of it was read back and is as it was written: in the background since it was saved, or before the
    attempt went on from it. Until then it was written, synced and sealed."""
    damaged: bool = False
    """Whether it was found damaged, or could not be read back; a restart would take one before it."""
    has_rng: bool
    """Whether the state of random numbers is in it."""
    has_optimizer: bool
    """Whether the optimizer's state is in it."""
    layout: str
    """World layout that wrote it, for example `tp1-pp1-dp2`."""


class CheckpointStatus(Record):
    """The checkpoints on the volume."""

    latest: CheckpointFacts | None = None
    """The newest one; absent before the first."""
    count: int = 0
    """Checkpoints that are kept."""
    save_seconds: float | None = None
    """How long the slowest save of the last attempt that saved took: what `onPreemption.gracePeriodSeconds` must
    cover."""


class Failure(Record):
    """A pod that failed."""

    role: str
    """`trainer` or `rollout`."""
    rank: int
    """Of the trainer rank that failed first, or the first of `node`; of a rollout server its index."""
    node: int | None = None
    """The trainer pod, if it died without a word and has several ranks: nobody knows which of them was first."""
    attempt: int
    """Number of the attempt that ran then."""
    exit_code: int | None = None
    """Of its process; absent if nobody saw it end."""
    message: str = ""
    """Its last words, at most 1024 characters."""
    time: str = ""
    """When it ended."""

    @property
    def who(self) -> str:
        """For sentences: `trainer 9`, `trainer node 1`, `rollout 0`."""
        return f"{self.role} {self.rank}" if self.node is None else f"{self.role} node {self.node}"


BY_TYPE_SCHEMA: dict[str, JsonValue] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
}
"""Each condition is there once, and who patches one leaves the others alone."""


class Status(Record):
    """What the system last saw of the job."""

    observed_generation: int = 0
    """Generation of the job that all of this is about."""
    phase: Phase = Phase.PENDING
    message: str = ""
    """What is wrong and what to do, else empty."""
    backend: str = ""
    """The backend that trains, chosen if `spec.backend` does not say."""
    conditions: list[Condition] = Field([], json_schema_extra=BY_TYPE_SCHEMA)
    """What holds of the job and what does not, one of each type."""
    attempt: AttemptStatus | None = None
    trainer: RoleStatus = RoleStatus()
    rollout: RolloutStatus = RolloutStatus()
    progress: ProgressStatus = ProgressStatus()
    checkpoint: CheckpointStatus = CheckpointStatus()
    restarts: int = 0
    """How often the trainer gang was started anew, whatever for."""
    restarts_count_towards_max: int = 0
    """Those of them that were failures: more than `failurePolicy.maxRestarts` fail the job."""
    preemptions: int = 0
    """Those of them that the cluster asked for."""
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
