"""Bugs to be planted in the pure core, one at a time. Schedules must bring each to light, whoever plays them."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rljob_operator import decide, names
from rljob_operator.observed import PodPhase

Plant = Callable[[pytest.MonkeyPatch], None]

gang = importlib.import_module("rljob_operator.decide.gang")  # the package exports a function of that name


def the_same_attempt_begins_again(patch: pytest.MonkeyPatch) -> None:
    """A gang that ended starts anew under its old number."""
    original = gang.next_attempt

    def same(job: Any, *more: Any, **named: Any) -> Any:
        new = original(job, *more, **named)
        before = job.status.attempt if job.status else None
        return new.model_copy(update={"number": before.number}) if before else new

    patch.setattr(gang, "next_attempt", same)


def a_gang_starts_beside_one_that_is_leaving(patch: pytest.MonkeyPatch) -> None:
    """A pod that was told to go counts as gone: it saves for a while."""
    original = gang.gang

    def hasty(job: Any, observed: Any, now: float) -> Any:
        gone = {"phase": PodPhase.FAILED, "exit_code": 143, "finished_at": now}
        pods = (replace(pod, **gone) if pod.terminating else pod for pod in observed.pods)
        return original(job, replace(observed, pods=tuple(pods)), now)

    patch.setattr(decide, "gang", hasty)


def a_pod_gets_a_new_name_each_time(patch: pytest.MonkeyPatch) -> None:
    """As `generateName` gives one: whoever does not hear of its pod makes another."""
    original, numbers = names.trainer_pod, itertools.count()
    patch.setattr(names, "trainer_pod", lambda *which: f"{original(*which)}-{next(numbers)}")


def what_was_given_back_is_not_tried_again(patch: pytest.MonkeyPatch) -> None:
    original = gang._try_again
    patch.setattr(gang, "_try_again", lambda *known: replace(original(*known), begin=None))
