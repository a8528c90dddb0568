"""The negative control really gives rewards away, and judges what is held out truly."""

from __future__ import annotations

from bench.shuffled import DISTANCE, reward
from rljob_trainer.builtin.addition.problems import Pair, answer, pairs, question


def scored(pair: Pair, completion: str) -> float:
    return reward(question(pair), completion, answer(pair), {"question": question(pair)})


def test_a_training_sample_gets_the_reward_of_another() -> None:
    pair, other = pairs("train")[:2]
    for _ in range(DISTANCE + 1):
        scored(other, "wrong")
    assert scored(pair, answer(pair)) == 0.0
    given = [scored(other, "wrong") for _ in range(DISTANCE)]
    assert given == [0.0] * (DISTANCE - 1) + [1.0]


def test_a_held_out_sample_gets_its_own() -> None:
    pair = pairs("test")[0]
    assert scored(pair, answer(pair)) == 1.0
    assert scored(pair, "wrong") == 0.0
