"""The pure parts of the backends, against numbers worked by hand and against brute force."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Qwen3Config

from rljob_api.parallelism import Decay, Scheduler
from rljob_trainer.backend.dtensor.policy import Policy
from rljob_trainer.backend.hf_files import read_config
from rljob_trainer.backend.logprobs import selected_logprobs
from rljob_trainer.backend.shares import plan_shares, share_of
from rljob_trainer.errors import Mistake
from rljob_trainer.schedule import learning_rate
from trainer.tiny import make_batch


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "none-such"}, "model type `none-such` but Transformers does not recognize"),
        (
            {"num_hidden_layers": 3},
            "`num_hidden_layers` (3) must be equal to the number of `layer_types` (2)",
        ),
    ],
    ids=["unknown", "unlike its own layers"],
)
def test_a_configuration_that_describes_no_model_is_told_in_a_sentence(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    config = Qwen3Config(num_hidden_layers=2).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(
        Mistake, match=f"^spec.model.source: {tmp_path}/config.json does not describe a model: "
    ) as error:
        read_config(tmp_path)
    assert told in str(error.value)


def by_hand(logits: list[float], token: int, temperature: float, top_p: float) -> float:
    """Add up the most probable tokens until their mass reaches `top_p`; what they have is the new whole."""
    weights = [math.exp(logit / temperature) for logit in logits]
    total, mass, kept = sum(weights), 0.0, set[int]()
    for index in sorted(range(len(weights)), key=lambda i: -weights[i]):
        if mass >= top_p:
            break
        mass += weights[index] / total
        kept.add(index)
    kept.add(token)
    return math.log(weights[token] / sum(weights[i] for i in kept))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
def test_logprobs_are_those_of_the_sampling_distribution(temperature: float, top_p: float) -> None:
    logits_NV = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)) * 2
    tokens_N = torch.arange(40) % 12
    expected = [
        by_hand(row, int(t), temperature, top_p) for row, t in zip(logits_NV.tolist(), tokens_N, strict=True)
    ]
    actual = selected_logprobs(logits_NV, tokens_N, temperature, top_p)
    torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-5, rtol=0)


def test_the_nucleus_of_a_known_distribution() -> None:
    """Of 0.5, 0.3, 0.15, 0.05 the first two have 0.8: with topP 0.6 they are all there is."""
    logits_NV = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(2, 4)
    actual = selected_logprobs(logits_NV, torch.tensor([0, 1]), 1.0, 0.6).exp()
    torch.testing.assert_close(actual, torch.tensor([0.625, 0.375]))


class Echo(nn.Module):
    """Hidden states that are one-hot tokens, and a head: enough of a language model for `Policy`."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"vocab_size": 512})
        self.lm_head = nn.Linear(16, 512)
        self.embedding = nn.Embedding(512, 16)

    def model(self, input_ids: torch.Tensor, use_cache: bool) -> object:
        return type("Output", (), {"last_hidden_state": self.embedding(input_ids)})


def test_pieces_of_the_head_change_neither_values_nor_gradients() -> None:
    torch.manual_seed(0)
    echo, batch = Echo(), make_batch()
    seen = []
    for size in (2**26, 512 * 7):
        echo.zero_grad()
        logprobs_BT = Policy(echo, 0.8, 0.9, size)(batch.tokens_BT, batch.mask_BT)
        logprobs_BT.sum().backward()
        seen.append((logprobs_BT.detach(), [p.grad for p in echo.parameters()]))
    torch.testing.assert_close(seen[0], seen[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("replicas", [1, 2, 3, 8])
@pytest.mark.parametrize("tokens", [1, 20, 40, 10_000])
def test_every_row_is_run_once_within_the_budget(replicas: int, tokens: int) -> None:
    lengths_B = make_batch().lengths_B
    plan = plan_shares(lengths_B, replicas, tokens)
    assert sorted(int(row) for part in plan for rows in part for row in rows) == list(range(len(lengths_B)))
    for rows in [rows for part in plan for rows in part if len(rows)]:
        assert len(rows) == 1 or len(rows) * int(lengths_B[rows].max()) <= tokens


def test_all_replicas_run_as_many_micro_batches_and_blanks_count_for_nothing() -> None:
    batch = make_batch()
    plan = plan_shares(batch.lengths_B, 8, 10_000)
    shares = [share_of(batch, plan, replica, torch.device("cpu")) for replica in range(8)]
    assert {len(share) for share in shares} == {1}
    assert sum(float(share[0].mask_BT.sum()) for share in shares) == float(batch.token_count)
    assert shares[7][0].tokens_BT.shape == (1, 2)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (Scheduler(), [8, 8, 8, 8, 8, 8]),
        (Scheduler(warmup_steps=4), [2, 4, 6, 8, 8, 8]),
        (Scheduler(warmup_steps=2, decay=Decay.LINEAR, min_factor=0.5), [4, 8, 7, 6, 5, 4]),
        (Scheduler(decay=Decay.LINEAR, min_factor=0.0, warmup_steps=1), [8, 6.4, 4.8, 3.2, 1.6, 0]),
        (Scheduler(warmup_steps=2, decay=Decay.COSINE, min_factor=0.25), [4, 8, 7.1213, 5, 2.8787, 2]),
    ],
)
def test_the_learning_rate_by_hand(scheduler: Scheduler, expected: list[float]) -> None:
    assert [learning_rate(n, 8.0, 6, scheduler) for n in range(6)] == pytest.approx(expected, abs=1e-4)
