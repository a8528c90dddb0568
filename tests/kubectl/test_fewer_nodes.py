"""The hint for a job whose trainers find no nodes."""

from __future__ import annotations

from typing import Any

import pytest

from builders import a_job, a_status
from rljob_api.base import Manifest
from rljob_api.status import Condition, ConditionType
from rljob_cli.kubectl.fewer_nodes import hint


def said(**spec: Any) -> str:
    """Of a job that finds no room."""
    return hint_after("Unschedulable", **spec)


def hint_after(reason: str, **spec: Any) -> str:
    waits = Condition(type=ConditionType.PODS_READY, status="False", reason=reason)
    return hint(a_job(**spec).spec, a_status(conditions=[waits]))


SHARED: Manifest = {"checkpoint": {"storage": {"accessModes": ["ReadWriteMany"]}}}


def test_it_names_the_most_nodes_that_the_rules_allow() -> None:
    two_halves: Manifest = {"backend": "megatron", "parallelism": {"pipeline": 2}, **SHARED}
    assert said(trainer={"numNodes": 6}, **two_halves).startswith(
        "Fewer nodes: trainer.numNodes 4 (then data parallel is 2); "
    )


@pytest.mark.parametrize("nodes", [1, 2])
def test_where_no_fewer_nodes_would_do_nothing_is_said(nodes: int) -> None:
    whole: Manifest = {"parallelism": {"tensor": nodes}, **SHARED}
    assert said(trainer={"numNodes": nodes}, **whole) == ""


def test_nothing_is_said_when_it_is_not_room_that_lacks() -> None:
    assert hint_after("ImagePullFailed", trainer={"numNodes": 4}, **SHARED) == ""
