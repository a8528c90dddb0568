"""Weights reach every rank of a real vLLM server that spreads its model over two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rljob_api.algorithm import Sampling
from rljob_api.run import Run
from rljob_trainer.rollout.fleet import Fleet
from rljob_trainer.weights.sync import WeightSync
from trainer.test_weights_sync import seed_of
from trainer.vllm_server import (
    Alone,
    a_run,
    largest_difference,
    make_model,
    new_weights,
    nothing,
    servers_of,
    some_prompts,
)

A_CORE_EACH = [
    {"name": "VLLM_CPU_OMP_THREADS_BIND", "value": "0|1"},
    {"name": "VLLM_CPU_NUM_OF_RESERVED_CPU", "value": "0"},
]


def spread(work: Path) -> Run:
    """A server on two ranks. A rule refuses it on CPU, where vLLM must be told which cores are whose."""
    vllm = {"kvCacheMib": 32, "maxNumSeqs": 32, "maxModelLen": 128}
    run = a_run(work, replicas=1, rollout={"replicas": 1, "vllm": vllm, "env": A_CORE_EACH})
    rollout = run.spec.rollout.model_copy(update={"tensor_parallel": 2})
    return run.model_copy(update={"spec": run.spec.model_copy(update={"rollout": rollout})})


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    make_model(tmp_path / "model")
    with servers_of(spread(tmp_path), tmp_path) as (_, fleet):
        yield fleet


def test_after_a_push_logprobs_equal_those_of_transformers(fleet: Fleet, tmp_path: Path) -> None:
    model, sync = make_model(tmp_path / "again"), WeightSync(spread(tmp_path), Alone(), fleet)
    for step in (1, 2):
        new_weights(model, seed=step)
        sync.push(
            lambda: ((name, tensor.clone()) for name, tensor in model.named_parameters()), step, nothing
        )
        samples = fleet.generate(
            some_prompts(4), 2, Sampling(max_new_tokens=16), seed_of=seed_of, step=step, poll=nothing
        )
        assert largest_difference(model, samples) < 1e-4
