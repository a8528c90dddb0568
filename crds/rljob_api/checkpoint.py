"""`spec.checkpoint` and `spec.resume`: what is saved, and what a restart goes on from."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import DnsLabel, DnsSubdomain, Quantity, Spec
from .status import Exactness


class AccessMode(StrEnum):
    """Access modes of a claim, as in core/v1; a mode for a single pod is of no use, for all pods mount it."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    """All pods run on one node."""
    READ_WRITE_MANY = "ReadWriteMany"
    """Pods may run on several nodes."""


class WhenDeleted(StrEnum):
    """What becomes of the claim when the job is deleted."""

    RETAIN = "Retain"
    """It stays, and so do the checkpoints."""
    DELETE = "Delete"
    """It is deleted."""


class RetentionPolicy(Spec):
    """How long a new claim lives. An existing one is never deleted."""

    when_deleted: WhenDeleted = WhenDeleted.RETAIN
    """What becomes of it when the job is deleted."""


class Storage(Spec):
    """The volume of checkpoints, samples and the export: a new claim of `size`, or an existing `claimName`."""

    size: Quantity = "100Gi"
    """Size of a new claim; without effect on an existing one."""
    storage_class_name: DnsSubdomain | None = None
    """Storage class of a new claim; absent means that of the operator's settings, or the cluster's default."""
    access_modes: list[AccessMode] = Field([AccessMode.READ_WRITE_MANY], min_length=1, max_length=2)
    """Access modes of a new claim. Several trainer nodes need `ReadWriteMany`; without it all pods are kept on one
    node."""
    claim_name: DnsSubdomain | None = None
    """An existing claim to use instead of a new one."""
    retention_policy: RetentionPolicy = RetentionPolicy()
    """How long a new claim lives."""

    @property
    def on_one_node(self) -> bool:
        """Whether only pods of one node can mount it; of an existing claim that is not known here."""
        return self.claim_name is None and AccessMode.READ_WRITE_MANY not in self.access_modes


class KeepTopK(Spec):
    """Checkpoints that are kept because they are the best so far."""

    count: int = Field(ge=1, le=1000)
    """How many."""
    metric: str = Field("val:accuracy", pattern=r"^(val|train):[A-Za-z0-9_/]+$", max_length=128)
    """What best means (higher is better): `val:accuracy`, or `train:` and the name of a training metric. A checkpoint
    without it is not ranked, and stays as one of the newest only. One that was saved before its evaluation, when pods
    were told to go, has it once the restart evaluates, which it does first."""


class OnPreemption(Spec):
    """What happens when a pod is told to go."""

    save: bool = True
    """Save the last finished step before leaving."""
    grace_period_seconds: int = Field(300, ge=1, le=86_400)
    """How long pods may take to save before they are killed."""


class FinishedRollouts(Spec):
    """Finished groups (all completions of a prompt) of steps that are not saved yet, kept on the volume. A restart uses
    them instead of drawing them again, if weights, spec and versions are the same."""

    enabled: bool = True
    """Keep them; without effect where no checkpoints are saved, or none is resumed from."""
    after_seconds: int = Field(10, ge=0, le=86_400)
    """Seconds that a step generates before its groups are kept, those that are finished by then included. A step that
    is faster keeps none: to draw it again takes less than that, and most steps are never lost."""
    max_mib: int = Field(1024, ge=1, le=1_048_576)
    """Most that they may take of the volume, in MiB, about 17 bytes a token; what does not fit is drawn again."""


class OptimizerSharding(StrEnum):
    """How Megatron's optimizer is laid out in a checkpoint."""

    DP_RESHARDABLE = "DpReshardable"
    """Each rank writes its own share. It loads under another number of replicas, not under another cut of the model."""
    FULLY_RESHARDABLE = "FullyReshardable"
    """By parameter: it loads under any layout, at the price of gathering it over the replicas at every save."""


class Checkpoint(Spec):
    """What is saved, when, and for how long."""

    enabled: bool = True
    """Save checkpoints at all; without them every restart begins at step 0."""
    storage: Storage = Storage()
    """Where."""
    save_period: int = Field(20, ge=1, le=10_000_000)
    """Save after every so many steps; the last step is always saved."""
    keep_latest: int = Field(3, ge=1, le=10_000)
    """How many of the newest to keep; the newest verified one is never removed."""
    keep_top_k: KeepTopK | None = None
    """Which others to keep because they are the best."""
    save_optimizer: bool = True
    """Save the optimizer's state; without it a resume starts with a fresh optimizer."""
    async_save: bool = False
    """Write in the background while the next steps run."""
    optimizer_sharding: OptimizerSharding | None = None
    """Whether the layout may change between save and load. Megatron only; absent means `DpReshardable`."""
    fully_parallel_save: bool | None = None
    """All replicas write, each its part; false: the first one writes, for storage that dislikes many writers.
    Megatron only; absent means true."""
    fully_parallel_load: bool | None = None
    """Replicas read a part each and exchange it; false: each reads all that it needs. Megatron only; absent means
    true."""
    load_rng: bool | None = None
    """Restore random states. Absent: on restarts of this job where the layout allows; true: required, a restart that
    cannot waits until the job is edited; false: never."""
    on_preemption: OnPreemption = OnPreemption()
    """What happens when a pod is told to go."""
    finished_rollouts: FinishedRollouts = FinishedRollouts()
    """What a restart need not draw again."""


ABSOLUTE_PATH = r"^/.*[^/]$"


class InitialCheckpoint(Spec):
    """A checkpoint that another job wrote, for this one to go on from until it has one of its own.

    Model, optimizer, step and position in the data are taken over; random states only with `checkpoint.loadRng: true`.
    It must be of the same model and backend, and verify.
    """

    rljob_name: DnsLabel | None = None
    """Job of the same namespace that wrote it; it may be gone, if its claim is there. `rljob run` looks beside its own
    work directory."""
    step: int | None = Field(None, ge=1, le=10_000_000)
    """Which of that job's checkpoints; absent means the newest that is whole when this job begins. Restarts keep it."""
    claim_name: DnsSubdomain | None = None
    """Claim of that job; absent means the one that was made for it, `<rljobName>-storage`."""
    path: str | None = Field(None, pattern=ABSOLUTE_PATH, max_length=1024)
    """Instead of a job: the checkpoint's directory as the trainers see it, for example on a volume of
    `trainer.template`."""

    @property
    def told(self) -> str:
        """As a job file has it, on one line."""
        fields = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return f"initialCheckpoint: {{{', '.join(f'{name}: {value}' for name, value in fields.items())}}}"


class ResumePolicy(StrEnum):
    """Where a new attempt starts."""

    LATEST = "Latest"
    """From the newest checkpoint of this job that verifies."""
    NEVER = "Never"
    """From step 0, at every start and restart; checkpoints that are there are moved to `quarantine/`, never deleted."""


class Resume(Spec):
    """What a restart goes on from."""

    policy: ResumePolicy = ResumePolicy.LATEST
    """Where a new attempt starts."""
    exactness: Exactness = Exactness.BEST_EFFORT
    """The least that a restart must reach. One that cannot gives its pods back and waits, saying what differs, until
    the job is edited or suspended and resumed. vLLM on GPUs does not repeat its samples: there `Exact` waits at the
    first restart, and the condition `ResumeExact` says so from the beginning."""
    load_optimizer: bool = True
    """Load the optimizer's state too. A restart under a layout that its state does not fit waits until the job is
    edited."""
