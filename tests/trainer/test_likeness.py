"""Rollout servers that compute alike, or not: which of them answers is a matter of the moment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from rljob_api.manifest import ProcessVersions
from rljob_trainer.errors import Unmet
from rljob_trainer.rollout.client import Client, Seen
from rljob_trainer.rollout.likeness import Likeness
from trainer.checkpoints import A_WORKER, BESIDE, VERSIONS

OTHER = A_WORKER.model_copy(update={"device": "cpu AVX2", "threads": 8})
UNLIKE = "server 1 computes with device cpu AVX2 instead of cpu AVX512, threads 8 instead of 1"


def a_server(index: int, *workers: ProcessVersions) -> Seen:
    client = Client(index, "", "", cast("Any", None), 1)
    return Seen(client, "instance", "1.1", datetime.now(UTC), workers)


def test_servers_that_are_alike_are_noted_once() -> None:
    likeness = Likeness(exact=True)
    likeness.meet([a_server(0, A_WORKER, A_WORKER), a_server(1, A_WORKER)])
    assert likeness.beside(VERSIONS) == BESIDE


def test_one_that_is_another_is_noted_and_its_going_undoes_nothing() -> None:
    told: list[str] = []
    likeness = Likeness(exact=False)
    likeness.changed = lambda: told.append(likeness.beside(VERSIONS).unlike_servers)
    likeness.meet([a_server(0, A_WORKER), a_server(1, A_WORKER)])
    assert told == []
    for workers in ([OTHER], [OTHER], [A_WORKER]):
        likeness.meet([a_server(0, A_WORKER), a_server(1, *workers)])
    assert told == [UNLIKE]
    assert likeness.beside(VERSIONS).unlike_servers == UNLIKE


def test_a_single_worker_that_is_another_counts() -> None:
    likeness = Likeness(exact=False)
    likeness.meet([a_server(0, A_WORKER, A_WORKER), a_server(1, A_WORKER, OTHER)])
    assert likeness.beside(VERSIONS).unlike_servers == UNLIKE


def test_a_job_that_asks_for_exactness_does_not_draw_beside_one_that_is_another() -> None:
    with pytest.raises(
        Unmet, match=rf"resume.exactness is Exact, but rollout {UNLIKE}: samples may depend on"
    ):
        Likeness(exact=True).meet([a_server(0, A_WORKER), a_server(1, OTHER)])


def test_of_one_that_cannot_tell_nothing_is_claimed() -> None:
    likeness = Likeness(exact=False)
    likeness.meet([a_server(0), a_server(1, A_WORKER)])
    noted = likeness.beside(VERSIONS)
    assert (noted.rollout_servers, noted.unlike_servers) == (
        A_WORKER,
        "server 0 does not tell what it computes with",
    )
    with pytest.raises(Unmet, match="server 0 does not tell"):
        Likeness(exact=True).meet([a_server(0)])
