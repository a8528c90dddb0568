"""Runs on Megatron that stop at a step and go on from a checkpoint, and what two of them are compared by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_saver

from api.jobs import parsed
from rljob_api.base import Manifest
from rljob_api.job import JobSpec
from rljob_api.manifest import RngSharding
from rljob_trainer.backend.protocol import Backend, StepResult
from rljob_trainer.checkpoint import shards
from trainer import test_megatron_moe, tiny
from trainer.conversions import converted
from trainer.ranks import run_ranks
from trainer.test_megatron import SIZES, grpo, make_batch
from waiting import DEADLINE_SECONDS

if TYPE_CHECKING:  # a rank imports it; here it would cost ten seconds
    from rljob_trainer.backend.megatron.backend import MegatronBackend


SAVED = 3
"""Steps that a checkpoint of `Plan.save` holds."""


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
    """Where a checkpoint goes; with `background` it is written when the run has gone on to its end."""
    background: bool = False
    rng: bool = True
    drop_rng_of: int | None = None
    """A rank that goes on with fresh random states."""
    rng_sharding: RngSharding | None = None
    """Instead of the one that the job calls for."""
    mended: bool = True
    """Whether what native Adam spoils on a load is mended."""


def build(spec: JobSpec, model: Path, *, reference: bool = False) -> MegatronBackend:
    """The backend of a rank. Collective."""
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    return MegatronBackend(spec, model, converted(model), reference=reference)


def any_backend(spec: JobSpec, model: Path) -> Backend:
    """The same of a job on either backend."""
    from rljob_trainer.backend.dtensor.backend import DtensorBackend

    return build(spec, model) if spec.backend == "megatron" else DtensorBackend(spec, model)


def run(spec: JobSpec, model: Path, plan: Plan) -> Trace:
    backend = build(spec, model)
    if plan.rng_sharding:
        backend.layout = backend.layout.model_copy(update={"rng_sharding": plan.rng_sharding})
    if plan.load:
        fresh = backend.rng_state()
        with nullcontext() if plan.mended else unmended("load_state_dict"):
            backend.load_checkpoint(plan.load, optimizer=True, rng=plan.rng)
        if plan.drop_rng_of == dist.get_rank():
            backend.set_rng_state(fresh)
    results, wait, gate = [], None, Event()
    with gated(gate) if plan.background else nullcontext():
        for number in range(plan.first, plan.last):
            if plan.save and number == SAVED:
                rng, background = backend.rng_state(), plan.background
                wait = backend.save_checkpoint(plan.save, optimizer=True, rng=rng, background=background)
            results.append(step(backend, number))
        gate.set()
        if wait:
            wait()
    return Trace(results, digest(weights(backend)), digest(moments(backend)), draws())


def gated(gate: Event) -> AbstractContextManager[object]:
    """Files of tensors are not written before the gate is open."""
    write = state_dict_saver.save

    def late(*arguments: Any, **options: Any) -> Any:
        assert gate.wait(DEADLINE_SECONDS)
        return write(*arguments, **options)

    return mock.patch.object(shards, "save", late)


def step(backend: Backend, number: int) -> StepResult:
    batch = make_batch(number)
    batch, loss = grpo(batch, backend.logprobs(batch))
    return backend.train_step(batch, loss, lambda: None)


def digest(tensors: Iterable[Tensor]) -> str:
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().reshape(-1).view(torch.uint8).cpu().numpy().tobytes())
    return total.hexdigest()


def weights(backend: MegatronBackend) -> list[Tensor]:
    return [parameter for chunk in backend.chunks for parameter in chunk.parameters()]


def moments(backend: MegatronBackend) -> list[Tensor]:
    return [
        tensor
        for part in backend.optimizer.chained_optimizers
        for state in part.optimizer.state.values()
        for _, tensor in sorted(state.items())
    ]


def draws() -> list[float]:
    from megatron.core.tensor_parallel.random import get_cuda_rng_tracker

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with get_cuda_rng_tracker().fork():
        parallel = torch.rand((), device=device).item()
    return [parallel, torch.rand((), device=device).item(), torch.rand(()).item()]


def unmended(method: str) -> AbstractContextManager[object]:
    """Megatron's distributed optimizer over torch's Adam, as it is in one respect."""
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    from rljob_trainer.backend.megatron.optimizer import MendedOptimizer

    return mock.patch.object(MendedOptimizer, method, getattr(DistributedOptimizer, method))


def a_spec(
    *,
    data: int = 1,
    dropout: float = 0.0,
    overlap: bool = False,
    checkpoint: Manifest | None = None,
    on_gpu: bool = False,
    **cut: Any,
) -> JobSpec:
    """A job on as many ranks as its layout takes; `cut` goes to `parallelism`."""
    ranks = data * cut.get("tensor", 1) * cut.get("pipeline", 1) * cut.get("context", 1)
    return parsed(
        backend="megatron",
        algorithm={"grpo": {"learningRate": 1e-2, "maxSteps": 6}, "sampling": {"temperature": "0.7"}},
        parallelism=cut,
        trainer={"gpusPerNode" if on_gpu else "numProcPerNode": ranks},
        checkpoint=checkpoint or {},
        megatron={
            "microBatchTokens": 40,
            "attentionDropout": dropout,
            "overlapGradReduce": overlap,
            "overlapParamGather": overlap,
        },
    )


def a_model(directory: Path, *specs: JobSpec) -> Path:
    """With experts if one of the jobs spreads them, and a layer for each piece of a stage."""
    cuts = [spec.parallelism for spec in specs]
    if any(cut.expert > 1 for cut in cuts):
        return test_megatron_moe.make_model(directory, "qwen3_moe")
    layers = max(2, *(cut.pipeline * cut.virtual_pipeline for cut in cuts))
    return tiny.make_model(directory, "qwen3", tied=True, num_hidden_layers=layers, **SIZES)


def ran(spec: JobSpec, model: Path, plan: Plan = Plan()) -> list[Trace]:
    """What the run came to on each rank, all of them new processes."""
    backend = "cpu:gloo,cuda:nccl" if spec.on_gpu else "gloo"
    return run_ranks(spec.trainer.world_size, run, spec, model, plan, backend=backend)


def saved(
    tmp_path: Path, spec: JobSpec, plan: Plan = Plan(), *later: JobSpec
) -> tuple[Path, Path, list[Trace]]:
    """A model for this job and those that come later, the checkpoint of a run on it, and what the run came to, which
    went on to its end."""
    model, directory = a_model(tmp_path / "model", spec, *later), tmp_path / "step_3"
    directory.mkdir()
    return model, directory, ran(spec, model, replace(plan, save=directory))


def same_end(straight: Trace, resumed: Trace) -> bool:
    """Equal to the last bit: metrics of the common steps, weights, optimizer, and the next random numbers."""
    return replace(straight, results=straight.results[-len(resumed.results) :]) == resumed
