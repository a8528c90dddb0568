"""The dtensor backend on real gloo ranks: against transformers, and against itself under another cut."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from rljob_api.job import JobSpec
from rljob_trainer.backend.dtensor.backend import DtensorBackend
from rljob_trainer.backend.protocol import Interrupted, NonFiniteGradientError, StepResult
from rljob_trainer.batch import Batch
from rljob_trainer.errors import Mistake
from trainer.ranks import run_ranks
from trainer.tiny import make_batch, make_model, make_spec, policy_loss, transformers_logprobs

KINDS = {"qwen2": True, "qwen3": False, "llama": False}
"""Architecture → embeddings tied."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: make_model(root / kind, kind, tied=tied) for kind, tied in KINDS.items()}


def whole(backend: DtensorBackend) -> dict[str, Tensor]:
    """A copy of every parameter, whole, on every rank."""
    parameters = {name: parameter.detach() for name, parameter in backend.policy.hf.named_parameters()}
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).clone()
        for name, value in parameters.items()
    }


def fingerprint(backend: DtensorBackend) -> str:
    """Of this rank's own shards, optimizer included."""
    digest = hashlib.sha256()
    for parameter in backend.policy.parameters():
        for tensor in (parameter, *backend.optimizer.state.get(parameter, {}).values()):
            local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
            digest.update(local.detach().numpy().tobytes())
    return digest.hexdigest()


def train(backend: DtensorBackend, first: int, last: int) -> list[StepResult]:
    batches = [make_batch(step) for step in range(first, last)]
    return [backend.train_step(batch, policy_loss(batch), lambda: None) for batch in batches]


def ask_logprobs(specs: list[tuple[JobSpec, Path]], batch: Batch) -> list[Tensor]:
    return [DtensorBackend(spec, model).logprobs(batch) for spec, model in specs]


@pytest.mark.parametrize("tensor", [1, 2])
def test_logprobs_equal_those_of_transformers(models: dict[str, Path], tensor: int) -> None:
    batch = make_batch()
    specs = [(make_spec(tensor=tensor, sampling={"temperature": "0.7"}), model) for model in models.values()]
    expected = [transformers_logprobs(model, batch, 0.7) for model in models.values()]
    for answers in run_ranks(tensor, ask_logprobs, specs, batch):
        torch.testing.assert_close(answers, expected, atol=1e-5, rtol=0)


@dataclass(frozen=True)
class Trained:
    results: list[StepResult]
    weights: dict[str, Tensor]
    logprobs: Tensor


def train_two_steps(spec: JobSpec, model: Path) -> Trained:
    backend = DtensorBackend(spec, model)
    results = train(backend, 0, 2)
    return Trained(results, whole(backend), backend.logprobs(make_batch(9)))


def assert_alike(one: Trained, other: Trained) -> None:
    for a, b in zip(one.results, other.results, strict=True):
        assert a.metrics == pytest.approx(b.metrics, rel=1e-4, abs=1e-6)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)
    torch.testing.assert_close(one.weights, other.weights, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(one.logprobs, other.logprobs, atol=2e-3, rtol=1e-3)


# A large epsilon keeps Adam from blowing up rounding where a gradient is almost zero.
CALM = {"eps": 1e-3, "maxGradNorm": 0.5}


@pytest.fixture(scope="session")
def on_one_rank(models: dict[str, Path]) -> dict[str, Trained]:
    spec = make_spec(optimizer=CALM, microBatchTokens=100_000)
    return {kind: run_ranks(1, train_two_steps, spec, model)[0] for kind, model in models.items()}


@pytest.mark.parametrize(
    ("kind", "layout", "options"),
    [
        ("qwen2", (1, 1), {"microBatchTokens": 20}),
        ("qwen2", (2, 1), {"microBatchTokens": 20, "activationCheckpointing": True}),
        ("qwen3", (2, 1), {}),
        ("qwen2", (1, 2), {}),
        ("qwen3", (1, 2), {}),
        ("llama", (1, 2), {}),
        ("qwen3", (2, 2), {"microBatchTokens": 20}),
    ],
)
def test_the_cut_does_not_change_what_is_learnt(
    models: dict[str, Path],
    on_one_rank: dict[str, Trained],
    kind: str,
    layout: tuple[int, int],
    options: dict[str, int],
) -> None:
    data, tensor = layout
    spec = make_spec(data=data, tensor=tensor, optimizer=CALM, **options)
    for trained in run_ranks(data * tensor, train_two_steps, spec, models[kind]):
        assert_alike(trained, on_one_rank[kind])


def test_one_step_is_that_of_plain_torch(models: dict[str, Path], on_one_rank: dict[str, Trained]) -> None:
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(models["qwen3"], dtype=torch.float32)
    matrices = [p for p in hf.parameters() if p.ndim > 1]
    others = [p for p in hf.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, eps=1e-3)
    for step in range(2):
        batch = make_batch(step)
        logprobs_BTV = hf(batch.tokens_BT).logits[:, :-1].log_softmax(-1)
        picked_BT = logprobs_BTV.gather(-1, batch.tokens_BT[:, 1:, None])[..., 0]
        loss, _ = policy_loss(batch)(torch.nn.functional.pad(picked_BT, (1, 0)), batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's own
        norm = torch.nn.utils.clip_grad_norm_(hf.parameters(), 0.5)
        optimizer.step()
        assert on_one_rank["qwen3"].results[step].metrics["loss"] == pytest.approx(
            float(loss.detach()), rel=1e-4
        )
        assert on_one_rank["qwen3"].results[step].grad_norm == pytest.approx(float(norm), rel=1e-4)
    weights = {name: p.detach() for name, p in hf.named_parameters()}
    torch.testing.assert_close(on_one_rank["qwen3"].weights, weights, atol=1e-5, rtol=1e-4)


def spoil_one_row(model: Path) -> list[bool]:
    """A NaN in the one row that only one replica sees; then an interruption; each time nothing has changed."""
    backend = DtensorBackend(make_spec(data=2, microBatchTokens=20), model)
    train(backend, 0, 1)
    before, batch, unchanged = fingerprint(backend), make_batch(1), []

    def poisoned(logprobs_bT: Tensor, micro: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        value, metrics = policy_loss(batch)(logprobs_bT, micro)
        return value * (float("nan") if 20 in micro.lengths_B else 1.0), metrics

    with pytest.raises(NonFiniteGradientError):
        backend.train_step(batch, poisoned, lambda: None)
    unchanged.append(fingerprint(backend) == before)
    polls = iter(range(3))

    def poll() -> None:
        if next(polls) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        backend.train_step(batch, policy_loss(batch), poll)
    unchanged.append(fingerprint(backend) == before)
    clean = backend.train_step(batch, policy_loss(batch), lambda: None)
    return [*unchanged, clean.grad_norm > 0, fingerprint(backend) != before]


def test_a_nan_or_an_interruption_leaves_all_ranks_as_they_were(models: dict[str, Path]) -> None:
    assert run_ranks(2, spoil_one_row, models["qwen3"]) == [[True] * 4] * 2


def export_after_a_step(model: Path, directory: Path, tensor: int) -> dict[str, Tensor]:
    backend = DtensorBackend(make_spec(tensor=tensor), model, reference=True)
    before = backend.reference_logprobs(make_batch())
    train(backend, 0, 1)
    assert torch.equal(backend.reference_logprobs(make_batch()), before)
    assert not torch.equal(backend.logprobs(make_batch()), before)
    backend.save_hf_model(directory)
    return whole(backend)


@pytest.mark.parametrize(("kind", "tensor"), [("qwen2", 2), ("qwen3", 1)])
def test_an_export_loads_in_transformers_bit_for_bit(
    models: dict[str, Path], tmp_path: Path, kind: str, tensor: int
) -> None:
    from transformers import AutoModelForCausalLM

    weights = run_ranks(tensor, export_after_a_step, models[kind], tmp_path, tensor)[0]
    hf = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert hf.config.tie_word_embeddings is KINDS[kind]
    assert (hf.lm_head.weight is hf.model.embed_tokens.weight) is KINDS[kind]
    loaded = dict(hf.named_parameters())
    assert list(loaded) == list(weights)
    assert ("lm_head.weight" in weights) is not KINDS[kind]
    for name, tensor_ in weights.items():
        assert torch.equal(loaded[name], tensor_), name


def refuse(model: Path) -> str:
    assert dist.get_world_size() == 4
    with pytest.raises(Mistake) as told:
        DtensorBackend(make_spec(tensor=4), model)
    return str(told.value)


def test_heads_that_cannot_be_dealt_out_are_a_mistake_told_as_a_sentence(models: dict[str, Path]) -> None:
    assert "4 does not divide the model's num_key_value_heads = 2" in run_ranks(4, refuse, models["qwen3"])[0]
