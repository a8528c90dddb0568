"""When a checkpoint is due."""

from __future__ import annotations

from rljob_trainer.checkpoint.due import SaveDue


def saves(due: SaveDue, broken: range) -> list[int]:
    """Steps after which one is tried; those in `broken` fail."""
    tried = []
    for step in range(1, due.last + 1):
        if due.take(step):
            tried.append(step)
            due.failed(step) if step in broken else due.saved()
    return tried


def test_every_period_and_after_the_last_step() -> None:
    assert saves(SaveDue(4, 10), range(0)) == [4, 8, 10]


def test_one_that_failed_is_tried_soon_and_then_more_seldom() -> None:
    assert saves(SaveDue(10, 40), range(10, 18)) == [10, 11, 13, 17, 20, 30, 40]


def test_never_more_seldom_than_a_period() -> None:
    assert saves(SaveDue(4, 24), range(4, 20)) == [4, 5, 7, 8, 12, 16, 20, 24]
