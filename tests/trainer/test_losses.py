"""The GRPO loss against arithmetic done by hand, a second implementation in loops, and its own gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rljob_api.algorithm import Grpo
from rljob_trainer.batch import Batch
from rljob_trainer.losses import grpo_loss, k3, mismatch


def batch(old: list[list[float]], mask: list[list[float]], advantages: list[float], **more: Tensor) -> Batch:
    old_BT = torch.tensor(old, dtype=torch.float64)
    made = Batch(
        tokens_BT=torch.zeros_like(old_BT, dtype=torch.int64),
        lengths_B=torch.full((len(old),), old_BT.shape[1]),
        mask_BT=torch.tensor(mask, dtype=torch.float64),
        rollout_logprobs_BT=old_BT,
        advantages_B=torch.tensor(advantages, dtype=torch.float64),
        old_logprobs_BT=old_BT,
    )
    return replace(made, **more)


def logs(*ratios: float) -> Tensor:
    return torch.tensor([ratios], dtype=torch.float64).log()


def random_batch(seed: int) -> tuple[Tensor, Batch]:
    """Log-probabilities now and a batch of 3 rows whose prompts and lengths differ."""
    draw = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(3, 6, generator=draw, dtype=torch.float64)

    mask_BT = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0]], dtype=torch.float64)
    old_BT = (-1 + noise(0.3)) * mask_BT
    made = batch(old_BT.tolist(), mask_BT.tolist(), [1.5, -0.7, 0.4])
    made = replace(
        made, rollout_logprobs_BT=old_BT + noise(0.5) * mask_BT, reference_logprobs_BT=old_BT + noise(0.5)
    )
    return (old_BT + noise(0.3)) * mask_BT, made


def test_a_success_counts_up_to_the_upper_bound() -> None:
    # Ratios 1.1 and 1.5, advantage 2, clipMax 0.3: -(1.1·2 + 1.3·2) / 2 tokens = -2.4; one of two is cut.
    loss, metrics = grpo_loss(Grpo(clip_max=0.3), 2)(logs(1.1, 1.5), batch([[0, 0]], [[1, 1]], [2]))
    assert loss.item() == pytest.approx(-2.4)
    assert metrics["clip_fraction"].item() == 0.5
    assert metrics["ratio"].item() == pytest.approx(1.3)


def test_a_failure_counts_down_to_the_lower_bound_only() -> None:
    # Ratios 0.5 and 1.5, advantage -2, clipMin 0.1: 0.5 is held at 0.9, 1.5 is not held: (1.8 + 3.0) / 2.
    loss, metrics = grpo_loss(Grpo(clip_min=0.1), 2)(logs(0.5, 1.5), batch([[0, 0]], [[1, 1]], [-2]))
    assert loss.item() == pytest.approx(2.4)
    assert metrics["clip_fraction"].item() == 0.5


def test_no_gradient_flows_where_clipping_cuts() -> None:
    now = logs(1.1, 1.5).requires_grad_()
    torch.autograd.backward(grpo_loss(Grpo(), 2)(now, batch([[0, 0]], [[1, 1]], [2]))[0])
    # d(-2·exp(x)/2)/dx = -exp(x) = -1.1 for the first.
    assert now.grad is not None
    assert now.grad[0].tolist() == pytest.approx([-1.1, 0])


def test_k3_of_a_doubled_and_a_halved_probability() -> None:
    # d = ln 2: 2 - ln 2 - 1 = 0.30685; d = -ln 2: 0.5 + ln 2 - 1 = 0.19315.
    found = k3(torch.zeros(2), torch.tensor([math.log(2), -math.log(2)]))
    assert found.tolist() == pytest.approx([1 - math.log(2), math.log(2) - 0.5])


def test_the_gradient_of_k3_is_that_of_the_true_divergence() -> None:
    logits = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64).log()
    policy = logits.log_softmax(0)
    # In expectation over tokens drawn from the policy itself, which the weights stand for.
    (estimated,) = torch.autograd.grad(
        (policy.exp().detach() * k3(policy, reference)).sum(), logits, retain_graph=True
    )
    (exact,) = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits)
    assert estimated.tolist() == pytest.approx(exact.tolist())


def test_the_penalty_weighs_the_divergence() -> None:
    # Advantage 0, so only 0.5 · mean(1 - ln 2, 0) over two tokens is left.
    reference = torch.tensor([[math.log(2), 0]], dtype=torch.float64)
    made = batch([[0, 0]], [[1, 1]], [0], reference_logprobs_BT=reference)
    loss, metrics = grpo_loss(Grpo(kl_penalty=0.5), 2)(logs(1, 1), made)
    assert loss.item() == pytest.approx(0.5 * (1 - math.log(2)) / 2)
    assert metrics["kl"].item() == pytest.approx((1 - math.log(2)) / 2)


def test_importance_weights_are_truncated_from_above_alone() -> None:
    # old/rollout = 4 and 0.5, cap 2: weights 2 and 0.5, ratio 1, advantage 1: -(2 + 0.5) / 2.
    made = batch([[0, 0]], [[1, 1]], [1], rollout_logprobs_BT=logs(0.25, 2))
    loss, metrics = grpo_loss(Grpo(truncated_importance_sampling=2), 2)(logs(1, 1), made)
    assert loss.item() == pytest.approx(-1.25)
    assert metrics["truncated_fraction"].item() == 0.5


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    now, whole = random_batch(1)
    loss = grpo_loss(Grpo(kl_penalty=0.1, truncated_importance_sampling=1.5), float(whole.token_count))
    total, metrics = loss(now, whole)
    parts = [loss(now[rows], whole.rows(rows)) for rows in (torch.tensor([0]), torch.tensor([1, 2]))]
    assert sum(part.item() for part, _ in parts) == pytest.approx(total.item())
    for name, value in metrics.items():
        assert sum(part[name].item() for _, part in parts) == pytest.approx(value.item()), name


def test_what_stands_outside_the_completion_does_not_matter() -> None:
    now, made = random_batch(2)
    dirty = now.masked_fill(made.mask_BT == 0, float("nan")).requires_grad_()
    loss = grpo_loss(Grpo(kl_penalty=0.1), float(made.token_count))
    total, _ = loss(dirty, made)
    torch.autograd.backward(total)
    assert total.item() == loss(now, made)[0].item()
    assert dirty.grad is not None
    assert dirty.grad.isfinite().all()
    assert not dirty.grad[made.mask_BT == 0].any()


@pytest.mark.parametrize("seed", range(5))
def test_a_second_implementation_in_loops_agrees(seed: int) -> None:
    grpo = Grpo(clip_min=0.1, clip_max=0.3, kl_penalty=0.2, truncated_importance_sampling=1.2)
    now, made = random_batch(seed)
    found, _ = grpo_loss(grpo, float(made.token_count))(now, made)
    assert found.item() == pytest.approx(by_loops(grpo, now.numpy(), made))


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_the_slope(seed: int) -> None:
    now, made = random_batch(seed)
    loss = grpo_loss(Grpo(truncated_importance_sampling=1.2), float(made.token_count))
    torch.autograd.gradcheck(lambda x: loss(x, made)[0], now.requires_grad_())


def test_missing_log_probabilities_are_named() -> None:
    now, made = random_batch(0)
    with pytest.raises(ValueError, match="old_logprobs_BT"):
        grpo_loss(Grpo(), 1)(now, replace(made, old_logprobs_BT=None))
    with pytest.raises(ValueError, match="reference_logprobs_BT"):
        grpo_loss(Grpo(kl_penalty=1), 1)(now, replace(made, reference_logprobs_BT=None))


def test_mismatch_looks_at_generated_tokens_only() -> None:
    # Differences ln 2 and 0 on generated tokens, 9 on a prompt token: mean ln 2 / 2, exp mean (2 + 1) / 2.
    made = batch([[9, 0, 0]], [[0, 1, 1]], [1], rollout_logprobs_BT=torch.tensor([[0, -math.log(2), 0]]))
    assert mismatch(made) == pytest.approx(
        {"mismatch_mean": math.log(2) / 2, "mismatch_max": math.log(2), "token_mult_prob_error": 1.5}
    )


def by_loops(grpo: Grpo, now: np.ndarray[Any, Any], made: Batch) -> float:
    assert made.old_logprobs_BT is not None
    assert made.reference_logprobs_BT is not None
    old, rollout = made.old_logprobs_BT.numpy(), made.rollout_logprobs_BT.numpy()
    reference, mask = made.reference_logprobs_BT.numpy(), made.mask_BT.numpy()
    total, count = 0.0, 0
    for b in range(mask.shape[0]):
        advantage = float(made.advantages_B[b])
        for t in range(mask.shape[1]):
            if not mask[b, t]:
                continue
            count += 1
            ratio = math.exp(now[b, t] - old[b, t])
            held = max(1 - grpo.clip_min, min(1 + grpo.clip_max, ratio))
            weight = min(grpo.truncated_importance_sampling, math.exp(old[b, t] - rollout[b, t]))
            d = reference[b, t] - now[b, t]
            total -= weight * min(ratio * advantage, held * advantage)
            total += grpo.kl_penalty * (math.exp(d) - d - 1)
    return total / count
