"""Tiny models, jobs and batches for backend tests: two layers, real architectures, made on the fly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rljob_api.base import Manifest
from rljob_api.job import JobSpec
from rljob_trainer.backend.protocol import LossFunction
from rljob_trainer.batch import Batch

VOCAB = 512


def make_model(directory: Path, kind: str, *, tied: bool = False, **sizes: Any) -> Path:
    """Weights large enough, and norms and biases uneven enough, that a wrong cut shows. `sizes` go to the config."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    usual = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32 if kind != "qwen2" else 16,
        "max_position_embeddings": 128,
        "initializer_range": 0.1,
    }
    config = AutoConfig.for_model(kind, tie_word_embeddings=tied, **usual | sizes)
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, mean=0.8, std=0.3)
    model.save_pretrained(directory)
    return directory


def make_spec(*, data: int = 1, tensor: int = 1, gpus: int = 0, **changes: Any) -> JobSpec:
    """A job on `data` x `tensor` ranks; `changes` go to the dtensor block, or to `grpo`, `sampling` and `optimizer`."""
    grpo: Manifest = {"learningRate": 1e-2, "maxSteps": 6, **changes.pop("grpo", {})}
    dtensor: Manifest = {"microBatchTokens": 64, **changes}
    sampling = dtensor.pop("sampling", {})
    ranks = {"gpusPerNode": gpus} if gpus else {"numProcPerNode": data * tensor}
    return JobSpec.model_validate_json(
        json.dumps(
            {
                "model": {"source": "/model"},
                "data": {"train": {"source": "/data"}},
                "reward": {"builtin": "math"},
                "algorithm": {"grpo": grpo, "sampling": sampling},
                "parallelism": {"tensor": tensor},
                "trainer": ranks,
                "dtensor": dtensor,
            }
        )
    )


def make_batch(seed: int = 0) -> Batch:
    """Seven rows of unequal length: micro-batches differ, and two replicas get unequal shares."""
    g = torch.Generator().manual_seed(seed)
    lengths_B = torch.tensor([20, 7, 12, 9, 17, 5, 11])
    B, T = len(lengths_B), int(lengths_B.max())
    column = torch.arange(T)
    real_BT = column < lengths_B[:, None]
    return Batch(
        tokens_BT=torch.randint(0, VOCAB, (B, T), generator=g) * real_BT,
        lengths_B=lengths_B,
        mask_BT=(real_BT & (column >= 3)).float(),
        rollout_logprobs_BT=torch.zeros(B, T),
        advantages_B=torch.randn(B, generator=g),
    )


def policy_loss(batch: Batch) -> LossFunction:
    """Advantage-weighted log-likelihood, averaged over all generated tokens of `batch`."""
    count = batch.token_count

    def loss(logprobs_bT: Tensor, micro: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        value = -(logprobs_bT * micro.advantages_B[:, None] * micro.mask_BT).sum() / count
        return value, {"tokens": micro.mask_BT.sum()}

    return loss


def transformers_logprobs(model: Path, batch: Batch, temperature: float) -> Tensor:
    """float32 [B, T] by transformers itself, padding masked in its own way."""
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    attention_BT = (torch.arange(batch.tokens_BT.shape[1]) < batch.lengths_B[:, None]).long()
    with torch.no_grad():
        logits_BTV = hf(batch.tokens_BT, attention_mask=attention_BT).logits[:, :-1] / temperature
    picked_BT = logits_BTV.log_softmax(-1).gather(-1, batch.tokens_BT[:, 1:, None])[..., 0]
    return torch.nn.functional.pad(picked_BT, (1, 0)) * batch.mask_BT


def megatron_spec(ranks: int, parallelism: Mapping[str, object], **options: Any) -> JobSpec:
    """A job on megatron whose micro-batches are of a few rows; `options` are those of its block."""
    spec = {
        "model": {"source": "/model"},
        "data": {"train": {"source": "/data"}},
        "reward": {"builtin": "math"},
        "backend": "megatron",
        "algorithm": {
            "grpo": {"learningRate": 1e-2, "maxSteps": 6},
            "sampling": {"temperature": "0.7"},
        },
        "parallelism": parallelism,
        "trainer": {"numProcPerNode": ranks},
        "megatron": {"microBatchTokens": 40, **options},
    }
    return JobSpec.model_validate_json(json.dumps(spec))
