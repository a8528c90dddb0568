"""Runs on Megatron that stop at a step and go on from a checkpoint, and what two of them are compared by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from rljob_api.checkpoint import Checkpoint
from rljob_api.job import JobSpec
from rljob_trainer.backend.protocol import StepResult
from trainer.conversions import converted
from trainer.ranks import run_ranks
from trainer.test_megatron import grpo, make_batch, make_model

if TYPE_CHECKING:  # a rank imports it; here it would cost ten seconds
    from rljob_trainer.backend.megatron.backend import MegatronBackend


@dataclass(frozen=True)
class Trace:
    """What two runs are compared by, on one rank."""

    results: list[StepResult]
    weights: str
    optimizer: str
    draws: list[float]
    """The next numbers of the rank's random streams."""


@dataclass(frozen=True)
class Plan:
    """What a run does between its start and its end."""

    first: int = 0
    last: int = 6
    load: Path | None = None
    save: Path | None = None
    background: bool = False
    rng: bool = True
    drop_rng_of: int | None = None
    """A rank that goes on with fresh random states."""


def build(spec: JobSpec, model: Path, *, reference: bool = False) -> MegatronBackend:
    """The backend of a rank. Collective."""
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    return MegatronBackend(spec, model, converted(model), reference=reference)


def run(spec: JobSpec, model: Path, plan: Plan) -> Trace:
    backend = build(spec, model)
    if plan.load:
        fresh = backend.rng_state()
        backend.load_checkpoint(plan.load, optimizer=True, rng=plan.rng)
        if plan.drop_rng_of == dist.get_rank():
            backend.set_rng_state(fresh)
    results = [step(backend, number) for number in range(plan.first, plan.last)]
    if plan.save:
        wait = backend.save_checkpoint(
            plan.save, optimizer=True, rng=backend.rng_state(), background=plan.background
        )
        if plan.background:
            step(backend, plan.last)  # must not reach the files
        wait()
    return Trace(results, digest(backend.model.parameters()), digest(moments(backend)), draws())


def step(backend: MegatronBackend, number: int) -> StepResult:
    batch = make_batch(number)
    batch, loss = grpo(batch, backend.logprobs(batch))
    return backend.train_step(batch, loss, lambda: None)


def digest(tensors: Iterable[Tensor]) -> str:
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().numpy().tobytes())
    return total.hexdigest()


def moments(backend: MegatronBackend) -> list[Tensor]:
    return [
        tensor
        for part in backend.optimizer.chained_optimizers
        for state in part.optimizer.state.values()
        for _, tensor in sorted(state.items())
    ]


def draws() -> list[float]:
    from megatron.core.tensor_parallel.random import get_cuda_rng_tracker

    with get_cuda_rng_tracker().fork():
        parallel = torch.rand(()).item()
    return [parallel, torch.rand(()).item()]


def saving(spec: JobSpec, **knobs: Any) -> JobSpec:
    """The job with these knobs in its `checkpoint` block."""
    return spec.model_copy(update={"checkpoint": Checkpoint.parse(knobs)})


def halted(tmp_path: Path, spec: JobSpec, plan: Plan = Plan()) -> tuple[Path, Path]:
    """A model, and the checkpoint of a run on it that ended after three steps."""
    model, directory = make_model(tmp_path / "model", "qwen3", tied=True), tmp_path / "step_3"
    directory.mkdir()
    run_ranks(spec.trainer.world_size, run, spec, model, replace(plan, last=3, save=directory))
    return model, directory


def same_end(straight: Trace, resumed: Trace) -> bool:
    """Equal to the last bit: metrics of the common steps, weights, optimizer, and the next random numbers."""
    return replace(straight, results=straight.results[-len(resumed.results) :]) == resumed
