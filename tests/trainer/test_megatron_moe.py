"""Models with experts on the Megatron backend: Qwen3-MoE and Mixtral, against transformers and plain torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from rljob_api.job import JobSpec
from rljob_trainer.backend.protocol import StepResult
from rljob_trainer.batch import Batch
from trainer import test_megatron, tiny
from trainer.ranks import run_ranks
from trainer.test_megatron import (
    ask_logprobs,
    export,
    files_of,
    make_batch,
    reference_logprobs,
    train,
    train_in_torch,
)

SIZES = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
KINDS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"moe_intermediate_size": 24, "norm_topk_prob": True},
    "mixtral": {},
}
UNSCALED = "qwen3_moe unscaled"
"""The weights of a token's experts do not sum to one."""
ALL_KINDS = KINDS | {UNSCALED: {"moe_intermediate_size": 24, "norm_topk_prob": False}}
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"expert": 2, "ranks": 2},
    {"expert": 2, "pipeline": 2, "ranks": 4},
    {"expert": 2, "ranks": 4},
    {"expert": 2, "context": 2, "ranks": 2},
    {"expert": 2, "tensor": 2, "sequence": True, "ranks": 2},
    {"tensor": 2, "sequence": True, "ranks": 2},
]


def make_model(directory: Path, kind: str, **sizes: Any) -> Path:
    return tiny.make_model(directory, kind.partition(" ")[0], **SIZES | ALL_KINDS[kind] | sizes)


def make_spec(*, ranks: int = 1, **parallelism: object) -> JobSpec:
    return tiny.megatron_spec(ranks, parallelism, optimizer={"eps": 1e-4})


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_logprobs_are_those_of_transformers_and_weights_come_back_bit_for_bit(
    tmp_path: Path, kind: str, layout: dict[str, Any]
) -> None:
    model, batch = make_model(tmp_path, kind), make_batch()
    expected, files = reference_logprobs(model, batch), files_of(model)
    for logprobs, weights in run_ranks(
        layout.get("ranks", 1), ask_logprobs, make_spec(**layout), model, batch
    ):
        torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=0)
        assert weights.keys() == files.keys()
        assert all(torch.equal(tensor, files[name]) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("kind", "layout"),
    [("mixtral", LAYOUTS[1]), (UNSCALED, LAYOUTS[1]), *(("qwen3_moe", layout) for layout in LAYOUTS)],
    ids=str,
)
def test_updates_equal_those_of_plain_torch(tmp_path: Path, kind: str, layout: dict[str, Any]) -> None:
    model = make_model(tmp_path, kind)
    expected, expected_results = train_in_torch(model, steps=2, eps=1e-4)
    ranks = run_ranks(layout.get("ranks", 1), train, make_spec(**layout), model, 2)
    weights, _ = ranks[0]
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0, msg=name)
    for _, own in ranks:
        for result, reference in zip(own, expected_results, strict=True):
            assert result.metrics == pytest.approx(reference.metrics, abs=1e-5)
            assert result.grad_norm == pytest.approx(reference.grad_norm, rel=1e-4)
            assert math.isfinite(result.learning_rate)


def cut_experts() -> JobSpec:
    """Each expert shared by two ranks, which see different rows. A rule refuses it on CPU: see `even_batch`."""
    spec = make_spec(ranks=2)
    cut = spec.parallelism.model_copy(update={"expert_tensor": 2})
    return spec.model_copy(update={"parallelism": cut})


def even_batch(seed: int = 0) -> Batch:
    """A row for each of two ranks, of one length: gloo gathers only what is as much on all of them."""
    return make_batch(seed, (12, 12))


def train_evenly(spec: JobSpec, model: Path, steps: int) -> tuple[dict[str, Tensor], list[StepResult]]:
    with mock.patch.object(test_megatron, "make_batch", even_batch):
        return train(spec, model, steps)


@pytest.mark.parametrize("kind", KINDS)
def test_experts_that_are_cut_come_back_bit_for_bit_and_compute_the_same(tmp_path: Path, kind: str) -> None:
    model, batch = make_model(tmp_path, kind), even_batch()
    expected, files = reference_logprobs(model, batch), files_of(model)
    for logprobs, weights in run_ranks(2, ask_logprobs, cut_experts(), model, batch):
        torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=0)
        assert weights.keys() == files.keys()
        assert all(torch.equal(tensor, files[name]) for name, tensor in weights.items())


def test_experts_that_are_cut_learn_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank has a part of their gradients, and all of it: they are summed over nobody."""
    model = make_model(tmp_path, "qwen3_moe")
    monkeypatch.setattr(test_megatron, "make_batch", even_batch)
    expected, _ = train_in_torch(model, steps=2, eps=1e-4)
    for weights, _ in run_ranks(2, train_evenly, cut_experts(), model, 2):
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_of_spread_experts_loads_in_transformers(tmp_path: Path, kind: str) -> None:
    model = make_model(tmp_path / "model", kind)
    trained = run_ranks(2, export, make_spec(expert=2, ranks=2), model, tmp_path / "export")
    exported = reference_logprobs(tmp_path / "export", make_batch())
    torch.testing.assert_close(trained[0], exported, atol=1e-5, rtol=0)
    assert not torch.allclose(exported, reference_logprobs(model, make_batch()), atol=1e-3)
