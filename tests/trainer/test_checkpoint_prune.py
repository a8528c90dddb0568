"""Which checkpoints are removed."""

from __future__ import annotations

import math

import pytest

from rljob_api.checkpoint import KeepTopK
from rljob_trainer.checkpoint.prune import steps_to_remove

SCORES = {10: 0.5, 20: 0.9, 30: 0.7, 40: 0.9, 50: 0.1}


@pytest.mark.parametrize(
    ("latest", "top", "removed"),
    [
        (5, None, []),
        (2, None, [10, 20, 30]),
        (1, None, [10, 20, 30, 40]),
        (1, 1, [10, 20, 30]),
        (1, 2, [10, 30]),
        (2, 1, [10, 20, 30]),
        (1, 99, []),
    ],
)
def test_the_newest_and_the_best_are_kept(latest: int, top: int | None, removed: list[int]) -> None:
    verified = {step: {"val:accuracy": score} for step, score in SCORES.items()}
    best = KeepTopK(count=top, metric="val:accuracy") if top else None
    assert steps_to_remove(verified, latest, best) == removed


def test_a_training_metric_is_found_by_the_name_that_the_loop_gives_it() -> None:
    verified = {
        1: {"reward": 0.9, "val:accuracy": 0.1},
        2: {"reward": 0.5, "val:accuracy": 0.8},
        3: {"reward": 0.6},
    }
    assert steps_to_remove(verified, 1, KeepTopK(count=1, metric="train:reward")) == [2]


def test_nan_and_absent_metrics_are_never_best() -> None:
    verified = {1: {"val:accuracy": math.nan}, 2: {}, 3: {"val:accuracy": 0.1}, 4: {}}
    assert steps_to_remove(verified, 1, KeepTopK(count=3)) == [1, 2]


@pytest.mark.parametrize(
    ("proved", "reading", "removed"),
    [
        ((), (), [10, 20, 30, 40]),
        ((10, 20), (), [10, 30, 40]),
        ((10, 20), (30,), [10, 40]),
        ((), (30,), [10, 20, 40]),
        ((10, 20), (50,), [10, 30, 40]),
        ((7,), (7,), [10, 20, 30, 40]),
    ],
)
def test_the_newest_that_was_read_back_is_kept_and_the_one_that_is_being_read(
    proved: tuple[int, ...], reading: tuple[int, ...], removed: list[int]
) -> None:
    assert steps_to_remove({step: {} for step in SCORES}, 1, None, proved, reading) == removed


def test_nothing_is_removed_where_nothing_is_whole() -> None:
    assert steps_to_remove({}, 1, None) == []
