"""Checkpoints of the dtensor backend: bit-exact resumes in new processes, other layouts, background writing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from rljob_api.base import Manifest
from rljob_api.job import JobSpec
from rljob_trainer.backend.dtensor.backend import DtensorBackend
from rljob_trainer.backend.rng import seed_rank
from trainer.ranks import run_ranks
from trainer.test_dtensor import fingerprint, train, whole
from trainer.tiny import make_batch, make_model, make_spec

DROPOUT = 0.1
"""So that the random state is really drawn from."""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), "qwen3")


@dataclass(frozen=True)
class End:
    losses: list[float]
    fingerprint: str
    """Of this rank's weights and optimizer."""


def train_straight(spec: JobSpec, model: Path, directory: Path) -> End:
    """Six steps; after the third a save in the background, which the next steps must not disturb."""
    backend = DtensorBackend(spec, model)
    results = train(backend, 0, 3)
    wait = backend.save_checkpoint(directory, optimizer=True, rng=backend.rng_state(), background=True)
    results += train(backend, 3, 6)
    wait()
    return End([result.metrics["loss"] for result in results], fingerprint(backend))


def save_after_three(spec: JobSpec, model: Path, directory: Path) -> list[float]:
    backend = DtensorBackend(spec, model)
    results = train(backend, 0, 3)
    backend.save_checkpoint(directory, optimizer=True, rng=backend.rng_state(), background=False)()
    return [result.metrics["loss"] for result in results]


def go_on(spec: JobSpec, model: Path, directory: Path, strange_rank: int | None = None) -> End:
    backend = DtensorBackend(spec, model)
    backend.load_checkpoint(directory, optimizer=True, rng=True)
    if dist.get_rank() == strange_rank:
        seed_rank(1234, 0)
    results = train(backend, 3, 6)
    return End([result.metrics["loss"] for result in results], fingerprint(backend))


@pytest.mark.parametrize(("data", "tensor"), [(2, 1), (1, 2)])
def test_a_resume_in_new_processes_is_bit_exact(model: Path, tmp_path: Path, data: int, tensor: int) -> None:
    spec = make_spec(data=data, tensor=tensor, attentionDropout=DROPOUT, microBatchTokens=40)
    straight = run_ranks(2, train_straight, spec, model, tmp_path / "background")
    first_half = run_ranks(2, save_after_three, spec, model, tmp_path / "plain")
    for saved in ("background", "plain"):
        resumed = run_ranks(2, go_on, spec, model, tmp_path / saved)
        for whole_run, half, rest in zip(straight, first_half, resumed, strict=True):
            assert half + rest.losses == whole_run.losses
            assert rest.fingerprint == whole_run.fingerprint
    strange = run_ranks(2, go_on, spec, model, tmp_path / "plain", 1)
    assert strange[0].losses[0] != straight[0].losses[3]
    assert strange[0].fingerprint != straight[0].fingerprint


@dataclass(frozen=True)
class Continued:
    loaded: dict[str, Tensor]
    logprobs: Tensor
    losses: list[float]
    rates: list[float]


def load_elsewhere(spec: JobSpec, model: Path, directory: Path) -> Continued:
    backend = DtensorBackend(spec, model)
    backend.load_checkpoint(directory, optimizer=True, rng=False)
    loaded, logprobs = whole(backend), backend.logprobs(make_batch(7))
    results = train(backend, 3, 6)
    losses, rates = [r.metrics["loss"] for r in results], [r.learning_rate for r in results]
    return Continued(loaded, logprobs, losses, rates)


def test_another_layout_loads_model_optimizer_and_schedule(model: Path, tmp_path: Path) -> None:
    options: Manifest = {"scheduler": {"decay": "linear"}, "optimizer": {"eps": 1e-4}}
    layouts = {(2, 2): tmp_path / "4", (1, 1): tmp_path / "1"}
    for (data, tensor), directory in layouts.items():
        spec = make_spec(data=data, tensor=tensor, **options)
        run_ranks(data * tensor, save_after_three, spec, model, directory)
    for directory in layouts.values():
        same, *others = [
            run_ranks(
                data * tensor,
                load_elsewhere,
                make_spec(data=data, tensor=tensor, **options),
                model,
                directory,
            )[0]
            for data, tensor in [(1, 1), (2, 1), (2, 2)]
        ]
        for other in others:
            assert all(torch.equal(other.loaded[name], same.loaded[name]) for name in same.loaded)
            torch.testing.assert_close(other.logprobs, same.logprobs, atol=1e-5, rtol=1e-5)
            assert other.losses == pytest.approx(same.losses, abs=1e-4)
            assert other.rates == same.rates
