"""Whatever interrupts the pure core, and in whatever order it hears of things, a job comes to its end."""

from __future__ import annotations

import os

import pytest

from core_plants import (
    Plant,
    a_gang_starts_beside_one_that_is_leaving,
    a_pod_gets_a_new_name_each_time,
    the_same_attempt_begins_again,
    what_was_given_back_is_not_tried_again,
)
from invariants import BrokenError, Invariant

from .schedules import TAKEN, play

SCHEDULES = int(os.environ.get("RLJOB_CORE_SCHEDULES", "200"))
"""`make bench` plays 10,000 others."""
AT_ONCE = 50


@pytest.mark.parametrize("first", range(0, SCHEDULES, AT_ONCE))
def test_random_schedules_lose_no_job(first: int) -> None:
    play_all(first)


@pytest.mark.parametrize("first", range(0, SCHEDULES // 2, AT_ONCE))
def test_a_job_whose_pods_were_only_taken_away_never_fails(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        play(seed, max_restarts=0, blows=TAKEN)


def play_all(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        play(seed)


@pytest.mark.parametrize(
    ("plant", "invariant"),
    [
        (a_gang_starts_beside_one_that_is_leaving, Invariant.ONE_ATTEMPT_TRAINS),
        (what_was_given_back_is_not_tried_again, Invariant.NO_JOB_IS_LOST),
        (the_same_attempt_begins_again, Invariant.NO_JOB_IS_LOST),
        (a_pod_gets_a_new_name_each_time, Invariant.ONE_LIVE_POD),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_planted_bug_breaks_its_invariant(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, invariant: Invariant
) -> None:
    plant(monkeypatch)
    with pytest.raises(BrokenError, match=invariant):
        play_all(0)
