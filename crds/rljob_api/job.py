"""The RLJob itself: what a user writes, from top to bottom."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from .algorithm import Algorithm
from .base import Record, Spec
from .checkpoint import Checkpoint, InitialCheckpoint, Resume
from .data import Data
from .failure import FailurePolicy
from .logs import Logging
from .model import Model
from .parallelism import BackendName, BackendOptions, Dtensor, Megatron, Parallelism
from .reward import Reward
from .roles import Accelerator
from .rollout import Rollout
from .rules import BrokenRulesError, broken_rules
from .stall import Stall
from .status import AttemptStatus, Status
from .trainer import Trainer
from .weights import WeightSync

OPERATOR = "rljob.io/operator"
"""What `managedBy` calls this operator."""
OURS = (None, OPERATOR)
"""Values of `managedBy` for which it works."""

ACCEPTED = {"accepted": True}
"""Validation context of a spec that was accepted when its job began: rules that came since stop nothing that runs."""

MAX_NAME = 40
"""Longest name of a job: pods, services and config maps carry it with a suffix."""


class JobSpec(Spec):
    """What to train, on what, and how."""

    suspend: bool = False
    """Save, stop all pods and keep the storage until it is false again."""
    managed_by: str | None = Field(None, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._/-]+$", max_length=63)
    """Who looks after the job; absent means `rljob.io/operator`, and that operator leaves any other alone."""
    active_deadline_seconds: int | None = Field(None, ge=1, le=315_360_000)
    """Longest time from start to end; then the job fails. The clock starts anew on a resume."""
    pre_running_deadline_seconds: int | None = Field(None, ge=1, le=315_360_000)
    """Longest time from start, or resume, until training runs; then the job fails."""
    ttl_seconds_after_finished: int | None = Field(None, ge=0, le=315_360_000)
    """Delete the job this long after its end. Absent: it stays. Without effect on `rljob run`."""
    model: Model
    """What is trained."""
    data: Data
    """Which prompts are asked."""
    reward: Reward
    """How a completion is scored."""
    algorithm: Algorithm = Algorithm()
    """How the policy learns."""
    backend: BackendName | None = None
    """What trains. Absent: `megatron` if a `megatron` block enables it, else `dtensor`; the status says which."""
    dtensor: Dtensor | None = None
    """Options of the dtensor backend."""
    megatron: Megatron | None = None
    """Options of the megatron backend."""
    parallelism: Parallelism = Parallelism()
    """How a model replica is cut."""
    accelerator: Accelerator = Accelerator()
    """The device plugin's resource."""
    trainer: Trainer = Trainer()
    """The ranks that learn."""
    rollout: Rollout = Rollout()
    """The vLLM servers that answer."""
    weight_sync: WeightSync = WeightSync()
    """How new weights reach vLLM."""
    checkpoint: Checkpoint = Checkpoint()
    """What is saved."""
    initial_checkpoint: InitialCheckpoint | None = None
    """A checkpoint of another job to begin with; absent means the model itself."""
    resume: Resume = Resume()
    """What a restart goes on from."""
    failure_policy: FailurePolicy = FailurePolicy()
    """When to restart, when to give up."""
    stall: Stall = Stall()
    """When silence counts as a hang."""
    logging: Logging = Logging()
    """Where curves go."""

    @model_validator(mode="after")
    def _cross_field_rules(self, info: ValidationInfo) -> Self:
        if info.context is not ACCEPTED and (broken := broken_rules(self)):
            raise BrokenRulesError(broken, self)
        return self

    @property
    def chosen_backend(self) -> BackendName:
        """R5: an explicit backend wins; else megatron if its block enables it; else dtensor."""
        if self.backend is not None:
            return self.backend
        megatron = self.megatron is not None and self.megatron.enabled
        return BackendName.MEGATRON if megatron else BackendName.DTENSOR

    @property
    def backend_choice(self) -> str:
        """Which backend trains, why, and which block is ignored: for the status."""
        chosen = self.chosen_backend
        if self.backend is not None:
            return f"backend {chosen}, as spec.backend says"
        told = f"backend {chosen}, as spec.backend is absent and "
        match chosen, self.dtensor, self.megatron:
            case BackendName.MEGATRON, None, _:
                return f"{told}spec.megatron is enabled"
            case BackendName.MEGATRON, Dtensor(enabled=True), _:
                return f"{told}of two enabled blocks megatron wins; spec.dtensor is ignored"
            case BackendName.MEGATRON, _, _:
                return f"{told}spec.megatron is enabled; spec.dtensor is ignored"
            case _, _, None:
                return f"{told}there is no spec.megatron"
            case _:
                return f"{told}spec.megatron is not enabled; spec.megatron is ignored"

    @property
    def backend_options(self) -> BackendOptions:
        """Options of the chosen backend, its defaults if its block is absent."""
        match self.chosen_backend:
            case BackendName.DTENSOR:
                return self.dtensor or Dtensor()
            case BackendName.MEGATRON:
                return self.megatron or Megatron()

    @property
    def on_gpu(self) -> bool:
        return self.trainer.gpus_per_node > 0

    @property
    def data_parallel(self) -> int:
        return self.trainer.world_size // self.parallelism.replica_ranks


class Metadata(Record):
    """The part of ObjectMeta that the system reads."""

    name: str = Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=MAX_NAME)
    """DNS-1035 label of at most 40 characters: pods and services carry it."""
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class RLJob(Spec):
    """One RL post-training run: a trainer gang, vLLM rollout servers, weight sync and checkpoints."""

    api_version: Literal["rljob.io/v1alpha1"] = "rljob.io/v1alpha1"
    kind: Literal["RLJob"] = "RLJob"
    metadata: Metadata
    spec: JobSpec
    """What to train, on what, and how."""
    status: Status | None = None
    """What the system last saw."""

    @property
    def attempt(self) -> AttemptStatus | None:
        """The attempt that runs now, or the last one; None before the first."""
        return self.status.attempt if self.status else None

    @property
    def attempt_number(self) -> int:
        """0 before the first."""
        return self.attempt.number if self.attempt else 0
