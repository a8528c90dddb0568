"""How the reward moves, for the screen of a status: `0.63 (+0.02 over 50 steps)`. The progress board keeps it."""

from __future__ import annotations

import math
from collections import deque
from statistics import linear_regression

WINDOW = 51
"""Rewards of so many steps: one of a step alone is mostly noise."""


class Trend:
    """The straight line through the last rewards. It begins anew with an attempt."""

    def __init__(self) -> None:
        self._rewards: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    def add(self, step: int, reward: float | None) -> dict[str, float]:
        """`reward_change`: by how much the least-squares line rose over the last `reward_change_steps` steps.

        Empty before the second step.
        """
        if reward is not None and math.isfinite(reward):
            self._rewards.append((step, reward))
        steps, rewards = [step for step, _ in self._rewards], [reward for _, reward in self._rewards]
        over = steps[-1] - steps[0] if steps else 0
        if over <= 0:
            return {}
        change = linear_regression(steps, rewards).slope * over
        return {"reward_change": change, "reward_change_steps": over}
