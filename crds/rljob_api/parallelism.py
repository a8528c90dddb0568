"""`spec.backend`, `spec.parallelism`, `spec.dtensor`, `spec.megatron`: what trains, and how it is spread over ranks."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from .base import Spec


class BackendName(StrEnum):
    """Training backends."""

    DTENSOR = "dtensor"
    """PyTorch FSDP2 with DTensor tensor parallelism."""
    MEGATRON = "megatron"
    """NVIDIA megatron-core."""


class Parallelism(Spec):
    """How a model replica is cut. Data parallel size is what remains: ranks / (tensor x pipeline x context)."""

    tensor: int = Field(1, ge=1, le=1024)
    """Ranks that share every matrix."""
    pipeline: int = Field(1, ge=1, le=1024)
    """Ranks that share the layers; megatron only."""
    virtual_pipeline: int = Field(1, ge=1, le=64)
    """Pieces of the layers on each pipeline rank: with more, ranks idle less and send more; megatron only."""
    context: int = Field(1, ge=1, le=1024)
    """Ranks that share the positions of every row, for long completions; megatron only."""
    expert: int = Field(1, ge=1, le=1024)
    """Ranks that share the experts of a layer, out of those that share a stage's batch; megatron only."""
    expert_tensor: int = Field(1, ge=1, le=1024)
    """Ranks that share the matrices of an expert; megatron only. Experts are not cut by `tensor`."""
    sequence: bool = False
    """Tensor ranks share positions where they share no matrix: less memory, the same numbers; megatron only."""

    @property
    def replica_ranks(self) -> int:
        """Ranks that hold one copy of the model, experts aside."""
        return self.tensor * self.pipeline * self.context

    @property
    def cuts_experts(self) -> bool:
        """Whether there are experts, and ranks that share them or their matrices."""
        return self.expert > 1 or self.expert_tensor > 1

    @property
    def expert_ranks(self) -> int:
        """Ranks that hold one copy of the experts."""
        return self.expert_tensor * self.expert * self.pipeline


class Optimizer(Spec):
    """AdamW. Its learning rate is `algorithm.grpo.learningRate`."""

    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the second moment."""
    eps: float = Field(1e-8, gt=0, le=1)
    """Added to the denominator."""
    weight_decay: float = Field(0.01, ge=0, le=10)
    """Decoupled weight decay of matrices and embeddings; 1-D parameters (norms, biases) do not decay."""
    max_grad_norm: float = Field(1.0, ge=0, le=1_000_000)
    """Gradients are clipped to this norm over all parameters; 0 turns clipping off."""


class Decay(StrEnum):
    """Shape of the learning rate after the warm-up."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class Scheduler(Spec):
    """The learning rate over the steps: a linear warm-up from 0, then a decay to `minFactor` x peak at `maxSteps`."""

    warmup_steps: int = Field(0, ge=0, le=10_000_000)
    """Steps of linear warm-up."""
    decay: Decay = Decay.CONSTANT
    """Shape after the warm-up."""
    min_factor: float = Field(0.1, ge=0, le=1)
    """Share of the peak that the decay ends at; without effect when `decay` is `constant`."""


class BackendOptions(Spec):
    """What both backends take."""

    enabled: bool = True
    """Whether this block may choose the backend when `spec.backend` is absent."""
    distributed_timeout_minutes: int | None = Field(None, ge=1, le=1440)
    """Longest wait of a collective, in minutes. Absent: the default of torch.distributed, 10 with NCCL and 30 with
    gloo."""
    check_for_nan_in_grad: bool = True
    """Fail the step when a gradient is NaN or infinite, before it reaches the weights."""
    micro_batch_tokens: int = Field(8192, ge=1, le=16_777_216)
    """Most tokens (padding included) of one forward pass on one rank; a step accumulates as many as it needs."""
    attention_dropout: float = Field(0, ge=0, lt=1)
    """Dropout on attention weights in training; 0 for RL in almost every case."""
    optimizer: Optimizer = Optimizer()
    """The optimizer."""
    scheduler: Scheduler = Scheduler()
    """The learning rate over the steps."""

    @property
    def distributed_timeout(self) -> timedelta | None:
        """Longest wait of a collective; None is torch's default."""
        minutes = self.distributed_timeout_minutes
        return None if minutes is None else timedelta(minutes=minutes)


class Dtensor(BackendOptions):
    """The `dtensor` backend: PyTorch FSDP2 with DTensor tensor parallelism."""

    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""


class Recompute(StrEnum):
    """Which activations the backward pass computes again instead of keeping them."""

    NONE = "none"
    SELECTIVE = "selective"
    """Those inside attention: much memory for long rows, little compute."""
    FULL = "full"
    """Those of whole layers: least memory, about a third more compute."""


class Megatron(BackendOptions):
    """The `megatron` backend: megatron-core."""

    distributed_timeout_minutes: int | None = Field(None, ge=1, le=1440)
    """Longest wait of a collective, in minutes. Absent: the default of torch.distributed (10 with NCCL, 30 with gloo)
    in the group of all ranks, and in the groups that Megatron makes its own, which is 30."""
    logging_level: int | None = Field(None, ge=0, le=50)
    """What Megatron's own loggers let through, in Python's numbers: 10 debug, 20 info, 30 warning, 40 error. Absent:
    what the trainer's log lets through, which is info."""
    recompute: Recompute = Recompute.NONE
    """Which activations are computed again in the backward pass instead of kept."""
    overlap_grad_reduce: bool = False
    """Add up gradients of replicas while the backward pass goes on, instead of after it; the sums are the same."""
    overlap_param_gather: bool = False
    """Gather what replicas have updated while the first of it is on its way to vLLM, instead of before; needs
    `overlapGradReduce`, by whose buckets it is gathered."""
