"""The Megatron backend on CPU with gloo, against transformers and against itself on one rank."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rljob_api.algorithm import Grpo
from rljob_api.job import JobSpec
from rljob_trainer.backend.protocol import Interrupted, LossFunction, NonFiniteGradientError, StepResult
from rljob_trainer.batch import Batch
from rljob_trainer.errors import Mistake
from rljob_trainer.losses import grpo_loss
from trainer import tiny
from trainer.conversions import converted
from trainer.ranks import StopAt, run_ranks

LAYOUTS = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 1)]
"""Tensor, pipeline, data."""
TRAINING_LAYOUTS = [(1, 1, 1), (2, 2, 1), (2, 1, 2)]
VOCAB = 67  # odd on purpose: two tensor ranks need a column that only fills up
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "max_position_embeddings": 131072,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def make_model(directory: Path, kind: str, *, tied: bool) -> Path:
    """`llama3` is a Llama with the positions of 3.1 and later."""
    if kind == "llama3":
        return tiny.make_model(directory, "llama", tied=tied, **SIZES | LLAMA3)
    return tiny.make_model(directory, kind, tied=tied, **SIZES)


def make_spec(tensor: int, pipeline: int, data: int, *, dropout: float = 0.0, **optimizer: float) -> JobSpec:
    ranks = tensor * pipeline * data
    cut = {"tensor": tensor, "pipeline": pipeline}
    return tiny.megatron_spec(ranks, cut, attentionDropout=dropout, optimizer=optimizer)


def make_batch(seed: int = 0, lengths: Sequence[int] = (20, 7, 12, 9, 17, 5, 11)) -> Batch:
    """Seven rows of unequal length: micro-batches differ in rows and width, and two replicas get unequal
    shares.
    """
    g = torch.Generator().manual_seed(seed)
    lengths_B = torch.tensor(lengths)
    B, T = len(lengths_B), int(lengths_B.max())
    column = torch.arange(T)
    real_BT = column < lengths_B[:, None]
    mask_BT = (real_BT & (column >= 3)).float()
    return Batch(
        tokens_BT=torch.randint(0, VOCAB, (B, T), generator=g) * real_BT,
        lengths_B=lengths_B,
        mask_BT=mask_BT,
        rollout_logprobs_BT=torch.zeros(B, T),
        advantages_B=torch.randn(B, generator=g),
    )


def reference_logprobs(model: Path, batch: Batch, temperature: float = 0.7) -> Tensor:
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.no_grad():
        logprobs_BTV = (hf(batch.tokens_BT).logits[:, :-1] / temperature).log_softmax(-1)
    picked = logprobs_BTV.gather(-1, batch.tokens_BT[:, 1:, None])[..., 0]
    return torch.nn.functional.pad(picked, (1, 0)) * batch.mask_BT


def ask_logprobs(spec: JobSpec, model: Path, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    backend = MegatronBackend(spec, model, converted(model), reference=False)
    assert torch.are_deterministic_algorithms_enabled()
    return backend.logprobs(batch), dict(backend.weights())


@pytest.mark.parametrize(
    ("kind", "tied"), [("qwen2", True), ("qwen3", False), ("llama", False), ("llama3", True)]
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_logprobs_equal_those_of_transformers_and_weights_come_back_bit_for_bit(
    tmp_path: Path, kind: str, tied: bool, layout: tuple[int, int, int]
) -> None:
    model, batch = make_model(tmp_path, kind, tied=tied), make_batch()
    expected, files = reference_logprobs(model, batch), files_of(model)
    for logprobs, weights in run_ranks(
        layout[0] * layout[1] * layout[2], ask_logprobs, make_spec(*layout), model, batch
    ):
        torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=0)
        assert weights.keys() == files.keys()
        assert all(torch.equal(tensor, files[name]) for name, tensor in weights.items())


def grpo(batch: Batch, old: Tensor) -> tuple[Batch, LossFunction]:
    """The loss of a step, one token of the batch weighing as much as any other."""
    options = Grpo.model_validate({"clipMax": 10.0, "clipMin": 1.0})
    return replace(batch, old_logprobs_BT=old), grpo_loss(options, float(batch.token_count))


def train(spec: JobSpec, model: Path, steps: int) -> tuple[dict[str, Tensor], list[StepResult]]:
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    backend = MegatronBackend(spec, model, converted(model), reference=False)
    results = []
    for seed in range(steps):
        batch, loss = grpo(make_batch(seed), backend.logprobs(make_batch(seed)))
        results.append(backend.train_step(batch, loss, lambda: None))
    return {name: tensor.clone() for name, tensor in backend.weights()}, results


def train_in_torch(model: Path, steps: int, eps: float) -> tuple[dict[str, Tensor], list[StepResult]]:
    """The same updates on one rank: the whole batch at once, transformers' model, torch's AdamW and clipping."""
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    matrices = [p for p in hf.parameters() if p.ndim > 1]
    others = [p for p in hf.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, eps=eps)
    results = []
    for seed in range(steps):
        batch = make_batch(seed)
        logprobs_BTV = (hf(batch.tokens_BT).logits[:, :-1] / 0.7).log_softmax(-1)
        picked = logprobs_BTV.gather(-1, batch.tokens_BT[:, 1:, None])[..., 0]
        logprobs_BT = torch.nn.functional.pad(picked, (1, 0)) * batch.mask_BT
        batch, loss = grpo(batch, logprobs_BT.detach())
        optimizer.zero_grad()
        value, metrics = loss(logprobs_BT, batch)
        value.backward()  # type: ignore[no-untyped-call] # torch's own
        norm = torch.nn.utils.clip_grad_norm_(hf.parameters(), 1.0)
        optimizer.step()
        told = {name: metric.item() for name, metric in {**metrics, "loss": value}.items()}
        results.append(StepResult(told, norm.item(), 1e-2))
    hf.save_pretrained(model / "trained")  # files keep experts apart that the model has in one tensor
    return files_of(model / "trained"), results


def files_of(model: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(model / "model.safetensors")


@pytest.mark.parametrize("layout", TRAINING_LAYOUTS)
@pytest.mark.parametrize(("kind", "tied"), [("qwen2", True), ("qwen3", False)])
def test_updates_equal_those_of_plain_torch(
    tmp_path: Path, kind: str, tied: bool, layout: tuple[int, int, int]
) -> None:
    model = make_model(tmp_path, kind, tied=tied)
    expected, expected_results = train_in_torch(model, steps=2, eps=1e-4)
    ranks = run_ranks(math.prod(layout), train, make_spec(*layout, eps=1e-4), model, 2)
    weights, _ = ranks[0]
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0, msg=name)
    assert weights.keys() == expected.keys()
    for _, own in ranks:
        for result, reference in zip(own, expected_results, strict=True):
            assert result.metrics == pytest.approx(reference.metrics, abs=1e-5)
            assert result.grad_norm == pytest.approx(reference.grad_norm, rel=1e-4)
            assert result.learning_rate == pytest.approx(reference.learning_rate)


def stop_half_way(spec: JobSpec, model: Path, stop_at: int) -> tuple[int, bool]:
    """How often ranks were asked whether to stop, and whether weights stayed; asking is a collective, as in
    the loop.
    """
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    backend = MegatronBackend(spec, model, converted(model), reference=False)
    before = {name: tensor.clone() for name, tensor in backend.weights()}
    poll = StopAt(stop_at)
    batch, loss = grpo(make_batch(), backend.logprobs(make_batch()))
    with contextlib.suppress(Interrupted):
        backend.train_step(batch, loss, poll)
    stayed = all(torch.equal(tensor, before[name]) for name, tensor in backend.weights())
    # What is left of the abandoned step must not reach the next one.
    result = backend.train_step(batch, loss, lambda: None)
    return poll.asked, stayed and math.isfinite(result.grad_norm)


@pytest.mark.parametrize(("layout", "stop_at"), [((2, 1, 1), 3), ((1, 2, 1), 2)])
def test_ranks_stop_together_and_keep_their_weights(
    tmp_path: Path, layout: tuple[int, int, int], stop_at: int
) -> None:
    model = make_model(tmp_path, "qwen3", tied=True)
    assert run_ranks(2, stop_half_way, make_spec(*layout), model, stop_at) == [(stop_at, True)] * 2


def meet_nan(spec: JobSpec, model: Path) -> tuple[str, bool]:
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    backend = MegatronBackend(spec, model, converted(model), reference=False)
    before = {name: tensor.clone() for name, tensor in backend.weights()}
    batch, loss = grpo(make_batch(), backend.logprobs(make_batch()))
    spoiled = replace(batch, advantages_B=batch.advantages_B * torch.inf)
    with pytest.raises(NonFiniteGradientError) as error:
        backend.train_step(spoiled, loss, lambda: None)
    return str(error.value), all(torch.equal(tensor, before[name]) for name, tensor in backend.weights())


@pytest.mark.parametrize("layout", [(2, 1, 1), (1, 2, 1)])
def test_a_nan_gradient_is_seen_by_all_ranks_and_changes_nothing(
    tmp_path: Path, layout: tuple[int, int, int]
) -> None:
    model = make_model(tmp_path, "qwen3", tied=True)
    assert run_ranks(2, meet_nan, make_spec(*layout), model) == [("the gradient norm is nan", True)] * 2


def export(spec: JobSpec, model: Path, directory: Path) -> Tensor:
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    backend = MegatronBackend(spec, model, converted(model), reference=True)
    start = backend.logprobs(make_batch())
    batch, loss = grpo(make_batch(), start)
    backend.train_step(batch, loss, lambda: None)
    backend.save_hf_model(directory)
    assert torch.equal(backend.reference_logprobs(batch), start)
    return backend.logprobs(batch)


@pytest.mark.parametrize("layout", TRAINING_LAYOUTS)
@pytest.mark.parametrize(("kind", "tied"), [("qwen2", True), ("llama3", False)])
def test_an_export_of_trained_weights_loads_in_transformers(
    tmp_path: Path, kind: str, tied: bool, layout: tuple[int, int, int]
) -> None:
    model = make_model(tmp_path / "model", kind, tied=tied)
    trained = run_ranks(math.prod(layout), export, make_spec(*layout), model, tmp_path / "export")
    exported = reference_logprobs(tmp_path / "export", make_batch())
    torch.testing.assert_close(trained[-1], exported, atol=1e-5, rtol=0)
    assert not torch.allclose(exported, reference_logprobs(model, make_batch()), atol=1e-3)


def build(spec: JobSpec, model: Path) -> str:
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    with pytest.raises(Mistake) as mistake:
        MegatronBackend(spec, model, converted(model), reference=False)
    return str(mistake.value)


def accepted_by_older_rules(spec: JobSpec) -> JobSpec:
    sampling = spec.algorithm.sampling.model_copy(update={"top_p": "0.9"})
    return spec.model_copy(update={"algorithm": spec.algorithm.model_copy(update={"sampling": sampling})})


def test_layouts_and_models_that_do_not_fit_are_refused_with_the_numbers(tmp_path: Path) -> None:
    model = make_model(tmp_path, "qwen3", tied=True)
    (layers,) = run_ranks(1, build, make_spec(1, 3, 1), model)
    assert (
        layers
        == "spec.parallelism.pipeline: 3 does not divide 2, the number of the model's layers; choose one of 1, 2"
    )
    (heads,) = run_ranks(1, build, make_spec(4, 1, 1), model)
    assert "spec.parallelism.tensor: 4 does not divide 2, the number of the model's key-value heads" in heads
    (top_p,) = run_ranks(1, build, accepted_by_older_rules(make_spec(1, 1, 1)), model)
    assert top_p.startswith("spec.algorithm.sampling.topP: 0.9 needs the whole vocabulary")
    config = model / "config.json"
    config.write_text(config.read_text().replace('"qwen3"', '"gpt_neox"'))
    (unknown,) = run_ranks(1, build, make_spec(1, 1, 1), model)
    assert (
        "no mapping for model type 'gpt_neox' (it knows llama, mixtral, qwen2, qwen3, qwen3_moe)" in unknown
    )
