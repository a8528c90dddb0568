"""Advantages against arithmetic done by hand and against a second implementation in plain Python."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from rljob_api.algorithm import Baseline, Grpo
from rljob_trainer.advantages import EPSILON, advantages


def grpo(group: int, baseline: Baseline = Baseline.LEAVE_ONE_OUT, *, normalize: bool = True) -> Grpo:
    return Grpo(generations_per_prompt=group, baseline=baseline, normalize_advantages=normalize)


def test_leave_one_out_compares_with_the_mean_of_the_others() -> None:
    # Others of 3: (0+1+2)/3 = 1 → 2; of 0: (3+1+2)/3 = 2 → -2; of 1: (3+0+2)/3 = 5/3 → -2/3; of 2: 4/3 → 2/3.
    found = advantages([3, 0, 1, 2], grpo(4, normalize=False))
    assert found == pytest.approx([2, -2, -2 / 3, 2 / 3])


def test_leave_one_out_divides_by_the_deviation_of_the_others() -> None:
    # For 3 the others are 0, 1, 2: variance ((-1)² + 0² + 1²) / (3 - 1) = 1, so 2 / (1 + 1e-6).
    # For 1 they are 3, 0, 2: mean 5/3, variance (16/9 + 25/9 + 1/9) / 2 = 7/3, so (-2/3) / √(7/3).
    found = advantages([3, 0, 1, 2], grpo(4))
    assert found[0] == pytest.approx(2 / (1 + EPSILON))
    assert found[2] == pytest.approx((-2 / 3) / (math.sqrt(7 / 3) + EPSILON))


def test_group_mean_uses_the_whole_group_for_both() -> None:
    # Mean 1.5; variance (2.25 + 2.25 + 0.25 + 0.25) / 3 = 5/3.
    found = advantages([3, 0, 1, 2], grpo(4, Baseline.GROUP_MEAN))
    deviation = math.sqrt(5 / 3) + EPSILON
    assert found == pytest.approx([1.5 / deviation, -1.5 / deviation, -0.5 / deviation, 0.5 / deviation])


def test_a_lone_success_keeps_its_plain_difference() -> None:
    # Its others are 0, 0, 0 and do not vary: 1 - 0 = 1. The rest compare with (1+0+0)/3, variance 1/3.
    found = advantages([1, 0, 0, 0], grpo(4))
    assert found == pytest.approx([1, *[(-1 / 3) / (math.sqrt(1 / 3) + EPSILON)] * 3])


@pytest.mark.parametrize("baseline", Baseline)
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1e9 / 7])
def test_equal_rewards_teach_exactly_nothing(baseline: Baseline, reward: float) -> None:
    assert advantages([reward] * 7, grpo(7, baseline)) == [0.0] * 7


def test_others_that_agree_up_to_rounding_do_not_blow_up() -> None:
    # The mean of seven times 0.1 is not 0.1 in floating point; a deviation of 1e-17 would make it a million.
    assert advantages([1, *[0.1] * 7], grpo(8))[0] == pytest.approx(0.9)


def test_groups_do_not_see_one_another() -> None:
    both = advantages([3, 0, 1, 2, 1, 0, 0, 0], grpo(4))
    assert both == advantages([3, 0, 1, 2], grpo(4)) + advantages([1, 0, 0, 0], grpo(4))


def test_two_completions_are_compared_without_a_deviation() -> None:
    assert advantages([5, 2], grpo(2)) == [3, -3]


@pytest.mark.parametrize("baseline", Baseline)
def test_a_second_implementation_agrees(baseline: Baseline) -> None:
    chance = random.Random(0)
    rewards = [chance.choice([0.0, 0.5, 1.0, chance.random()]) for _ in range(6 * 5)]
    expected = []
    for start in range(0, len(rewards), 5):
        group = rewards[start : start + 5]
        for i, reward in enumerate(group):
            compared = group[:i] + group[i + 1 :] if baseline is Baseline.LEAVE_ONE_OUT else group
            expected.append((reward - statistics.mean(compared)) / (statistics.stdev(compared) + EPSILON))
    assert advantages(rewards, grpo(5, baseline)) == pytest.approx(expected)
