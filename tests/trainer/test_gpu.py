"""The dtensor backend on one GPU: bfloat16 compute, an NCCL group of one, CUDA's random state, a bit-exact resume.

Runs with that machine's own torch and transformers; needs no vLLM and no second GPU.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rljob_trainer.backend.dtensor.backend import DtensorBackend
from trainer.ranks import run_ranks
from trainer.tiny import make_batch, make_model, make_spec, policy_loss, transformers_logprobs

BOTH = "cpu:gloo,cuda:nccl"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), "qwen3")


@dataclass(frozen=True)
class End:
    losses: list[float]
    weights: str
    master_dtypes: set[torch.dtype]
    served_dtypes: set[torch.dtype]


def train(model: Path, first: int, directory: Path, load: bool, drop_cuda_rng: bool = False) -> End:
    """Steps `first` to 6, with a checkpoint after the third."""
    torch.cuda.set_device(0)
    backend = DtensorBackend(make_spec(gpus=1, attentionDropout=0.1), model)
    if load:
        backend.load_checkpoint(directory, optimizer=True, rng=True)
    if drop_cuda_rng:
        torch.cuda.manual_seed(1234)
    losses = []
    for step in range(first, 6):
        if step == 3 and not load:
            backend.save_checkpoint(directory, optimizer=True, rng=backend.rng_state(), background=True)()
        batch = make_batch(step)
        losses.append(backend.train_step(batch, policy_loss(batch), lambda: None).metrics["loss"])
    return _end(backend, losses)


def _end(backend: DtensorBackend, losses: list[float]) -> End:
    digest = hashlib.sha256()
    for parameter in backend.policy.parameters():
        digest.update(parameter.full_tensor().detach().cpu().numpy().tobytes())  # type: ignore[attr-defined] # a DTensor
    masters = {parameter.dtype for parameter in backend.policy.parameters()}
    return End(losses, digest.hexdigest(), masters, {tensor.dtype for _, tensor in backend.weights()})


def test_a_resume_on_the_gpu_is_bit_exact(model: Path, tmp_path: Path) -> None:
    (straight,) = run_ranks(1, train, model, 0, tmp_path / "step", False, backend=BOTH)
    (resumed,) = run_ranks(1, train, model, 3, tmp_path / "step", True, backend=BOTH)
    (strange,) = run_ranks(1, train, model, 3, tmp_path / "step", True, True, backend=BOTH)
    assert resumed.losses == straight.losses[3:]
    assert resumed.weights == straight.weights
    assert strange.losses[0] != straight.losses[3], "dropout must draw from CUDA's random state"
    assert straight.master_dtypes == {torch.float32}
    assert straight.served_dtypes == {torch.bfloat16}


def ask_logprobs(model: Path) -> Tensor:
    torch.cuda.set_device(0)
    return DtensorBackend(make_spec(gpus=1), model).logprobs(make_batch())


def test_bfloat16_logprobs_are_close_to_float32_ones(model: Path) -> None:
    """The tolerance is a few roundings of logits to 8 bits."""
    (actual,) = run_ranks(1, ask_logprobs, model, backend=BOTH)
    expected = transformers_logprobs(model, make_batch(), 1.0)
    assert 0 < float((actual - expected).abs().max()) < 0.3
