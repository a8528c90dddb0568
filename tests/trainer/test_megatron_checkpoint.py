"""Megatron's checkpoints: a run that stops and goes on in new processes is, bit for bit, the run that never
stopped.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from rljob_api.job import JobSpec
from rljob_trainer.backend.protocol import StepResult
from trainer.ranks import run_ranks
from trainer.test_megatron import grpo, make_batch, make_model, make_spec

if TYPE_CHECKING:  # a rank imports it; here it would cost ten seconds
    from rljob_trainer.backend.megatron.backend import MegatronBackend

LAYOUTS = [(2, 1, 1), (1, 2, 1), (2, 1, 2)]
"""Tensor, pipeline, data."""
DROPOUT = 0.1


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
    sharding: Literal["dp_reshardable", "fully_reshardable"] = "dp_reshardable"


def run(spec: JobSpec, model: Path, plan: Plan) -> Trace:
    from rljob_trainer.backend.megatron.backend import MegatronBackend
    from rljob_trainer.backend.megatron.checkpoint import CheckpointOptions

    backend = MegatronBackend(
        spec, model, reference=False, saving=CheckpointOptions(optimizer_sharding=plan.sharding)
    )
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


def halted(tmp_path: Path, spec: JobSpec, plan: Plan) -> tuple[Path, Path]:
    """A model, and the checkpoint of a run on it that ended after three steps."""
    model, directory = make_model(tmp_path / "model", "qwen3", tied=True), tmp_path / "step_3"
    directory.mkdir()
    run_ranks(spec.trainer.world_size, run, spec, model, replace(plan, last=3, save=directory))
    return model, directory


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(
    tmp_path: Path, layout: tuple[int, int, int]
) -> None:
    spec = make_spec(*layout, dropout=DROPOUT)
    world = spec.trainer.world_size
    model, directory = halted(tmp_path, spec, Plan())
    straight = run_ranks(world, run, spec, model, Plan())
    resumed = run_ranks(world, run, spec, model, Plan(first=3, load=directory))
    assert [same_end(one, other) for one, other in zip(straight, resumed, strict=True)] == [True] * world

    forgetful = Plan(first=3, load=directory, drop_rng_of=world - 1)
    differing = run_ranks(world, run, spec, model, forgetful)
    assert not any(same_end(one, other) for one, other in zip(straight, differing, strict=True))


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    spec = make_spec(2, 1, 1, dropout=DROPOUT)
    model, directory = halted(tmp_path, spec, Plan(background=True))
    straight = run_ranks(2, run, spec, model, Plan())
    resumed = run_ranks(2, run, spec, model, Plan(first=3, load=directory))
    assert all(same_end(one, other) for one, other in zip(straight, resumed, strict=True))


@pytest.mark.parametrize("layout", [(1, 1, 1), (1, 2, 1)])
def test_a_fully_reshardable_checkpoint_goes_on_under_another_layout(
    tmp_path: Path, layout: tuple[int, int, int]
) -> None:
    plan = Plan(sharding="fully_reshardable")
    model, directory = halted(tmp_path, make_spec(2, 1, 2), plan)
    goes_on = replace(plan, first=3, load=directory, rng=False)
    same = run_ranks(4, run, make_spec(2, 1, 2), model, goes_on)[0]
    other = run_ranks(math.prod(layout), run, make_spec(*layout), model, goes_on)[0]
    for one, two in zip(same.results, other.results, strict=True):
        assert two.metrics == pytest.approx(one.metrics, abs=1e-6)
        assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)


def same_end(straight: Trace, resumed: Trace) -> bool:
    """Equal to the last bit: metrics of the common steps, weights, optimizer, and the next random numbers."""
    return replace(straight, results=straight.results[-len(resumed.results) :]) == resumed


def test_replicas_draw_from_streams_of_their_own(tmp_path: Path) -> None:
    model = make_model(tmp_path, "qwen3", tied=True)
    traces = run_ranks(2, run, make_spec(1, 1, 2, dropout=DROPOUT), model, Plan(last=0))
    assert traces[0].draws != traces[1].draws
