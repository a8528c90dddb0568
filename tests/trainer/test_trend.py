"""How the reward moves over the last steps."""

from __future__ import annotations

import math

import pytest

from rljob_trainer.trend import WINDOW, Trend


def test_it_is_what_the_line_through_the_last_steps_rose_by() -> None:
    trend = Trend()
    assert trend.add(1, 0.9) == {}, "one step has no trend"
    told: dict[str, float] = {}
    for step in range(2, 2 + WINDOW):
        told = trend.add(step, 0.01 * step)
    assert told == pytest.approx({"reward_change": 0.5, "reward_change_steps": 50}), "the outlier is too old"


def test_one_lucky_step_is_hardly_a_trend() -> None:
    trend = Trend()
    told = [trend.add(step, 0.5) for step in range(1, WINDOW)]
    assert told[-1]["reward_change"] == pytest.approx(0)
    assert trend.add(WINDOW, 1.0)["reward_change"] < 0.1, "the plain difference is 0.5"


@pytest.mark.parametrize("reward", [math.nan, None])
def test_a_step_without_a_reward_changes_nothing(reward: float | None) -> None:
    trend = Trend()
    trend.add(1, 0.1)
    before = trend.add(2, 0.2)
    assert trend.add(3, reward) == before
