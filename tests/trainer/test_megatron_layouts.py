"""Further ways to spread a dense model over ranks, and to spend less memory or time: none changes what is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from requirements.interrupted import build
from rljob_api.job import JobSpec
from rljob_trainer.backend import layout
from rljob_trainer.backend.protocol import StepResult
from trainer import tiny
from trainer.ranks import run_ranks
from trainer.test_megatron import (
    SIZES,
    ask_logprobs,
    files_of,
    grpo,
    make_batch,
    reference_logprobs,
    train,
    train_in_torch,
)

LAYOUTS: dict[str, dict[str, Any]] = {
    "sequence": {"tensor": 2, "sequence": True},
    "context": {"context": 2},
    "context-and-stages": {"context": 2, "pipeline": 2},
    "context-and-sequence": {"context": 2, "tensor": 2, "sequence": True},
    "virtual-stages": {"pipeline": 2, "virtualPipeline": 2},
    "replicas": {"replicas": 2},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "sequence": {"recompute": "full"},
    "context": {"recompute": "selective"},
    "virtual-stages": {"recompute": "full"},
    "replicas": {"overlapGradReduce": True, "overlapParamGather": True},
}


def make_spec(layout: str, **options: Any) -> JobSpec:
    parallelism = dict(LAYOUTS[layout])
    ranks = parallelism.pop("replicas", 1)
    for field in ("tensor", "pipeline", "context"):
        ranks *= parallelism.get(field, 1)
    return tiny.megatron_spec(ranks, parallelism, optimizer={"eps": 1e-4}, **options)


def make_model(directory: Path, kind: str = "qwen3") -> Path:
    """Four layers, for two stages with two pieces each; heads and embedding are one tensor."""
    return tiny.make_model(directory, kind, tied=True, num_hidden_layers=4, **SIZES)


def train_in_buckets(spec: JobSpec, model: Path, steps: int) -> tuple[dict[str, Tensor], list[StepResult]]:
    """As `train`, with buckets of which this small model fills several."""
    usual = layout.bucket_size
    with mock.patch.object(layout, "bucket_size", lambda spec: usual(spec) and 2000):
        return train(spec, model, steps)


BIASED = ("context-and-sequence", "qwen2")
"""Qwen2 has biases, of queries, keys and values."""


@pytest.mark.parametrize(("layout", "kind"), [*((layout, "qwen3") for layout in LAYOUTS), BIASED])
def test_updates_equal_those_of_plain_torch(tmp_path: Path, layout: str, kind: str) -> None:
    model = make_model(tmp_path, kind)
    expected, expected_results = train_in_torch(model, steps=2, eps=1e-4)
    spec = make_spec(layout, **OPTIONS.get(layout, {}))
    ranks = run_ranks(spec.trainer.world_size, train_in_buckets, spec, model, 2)
    same(ranks[0][0], expected)
    for _, own in ranks:
        for result, reference in zip(own, expected_results, strict=True):
            assert result.metrics == pytest.approx(reference.metrics, abs=1e-5)
            assert result.grad_norm == pytest.approx(reference.grad_norm, rel=1e-4)


def comes_back(spec: JobSpec, model: Path, directory: Path) -> bool:
    """Whether a checkpoint holds the trained weights. It is the first to need those that are gathered late."""
    backend, batch = build(spec, model), make_batch()
    backend.train_step(*grpo(batch, backend.logprobs(batch)), lambda: None)
    backend.save_checkpoint(directory, optimizer=False, rng=None, background=False)()
    trained = {name: tensor.clone() for name, tensor in backend.weights()}
    backend.load_checkpoint(directory, optimizer=False, rng=False)
    return all(torch.equal(tensor, trained[name]) for name, tensor in backend.weights())


def test_what_replicas_gather_late_is_in_a_checkpoint(tmp_path: Path) -> None:
    model, directory = make_model(tmp_path / "model"), tmp_path / "step"
    directory.mkdir()
    spec = make_spec("replicas", **OPTIONS["replicas"])
    assert run_ranks(2, comes_back, spec, model, directory) == [True] * 2


@pytest.mark.parametrize(
    ("layout", "kind"), [("context-and-sequence", "qwen3"), ("virtual-stages", "qwen3"), BIASED]
)
def test_logprobs_are_those_of_transformers_and_weights_come_back_bit_for_bit(
    tmp_path: Path, layout: str, kind: str
) -> None:
    model, batch, spec = make_model(tmp_path, kind), make_batch(), make_spec(layout)
    expected, files = reference_logprobs(model, batch), files_of(model)
    for logprobs, weights in run_ranks(spec.trainer.world_size, ask_logprobs, spec, model, batch):
        torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=0)
        assert weights.keys() == files.keys()
        assert all(torch.equal(tensor, files[name]) for name, tensor in weights.items())


def same(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0, msg=name)
