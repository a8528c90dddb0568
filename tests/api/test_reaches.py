"""The table of what reaches which library: its fields exist, and so do the arguments of what is installed."""

from __future__ import annotations

import inspect
from functools import reduce
from importlib import import_module
from typing import Any

import pytest

from rljob_api.fields import below, field
from rljob_api.reaches import REACHES, Reach

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # what libraries say when they are imported is not at stake here


@pytest.mark.parametrize("reach", REACHES, ids=lambda reach: f"{reach.field}-{reach.argument}")
def test_a_row_names_a_field_and_an_argument_that_exist(reach: Reach) -> None:
    assert field(f"spec.{reach.field}").path == f"spec.{reach.field}"
    module, _, name = reach.callable.partition(":")
    taken: Any = reduce(getattr, name.split("."), import_module(module))
    assert reach.argument in inspect.signature(taken).parameters


CHOOSE = {"megatron.enabled", "dtensor.enabled"}
"""They go to no library."""
OF_CHECKPOINTS = (
    "asyncSave",
    "fullyParallelLoad",
    "fullyParallelSave",
    "loadRng",
    "optimizerSharding",
    "saveOptimizer",
)
"""What libraries hear of; the rest of the block is for the saver."""


def test_every_knob_of_a_backend_has_a_row() -> None:
    knobs = {
        one.path.removeprefix("spec.")
        for block in ("spec.megatron", "spec.dtensor", "spec.parallelism")
        for one in below(field(block))
        if not one.children
    }
    knobs |= {f"checkpoint.{name}" for name in OF_CHECKPOINTS}
    assert knobs - {reach.field for reach in REACHES} == CHOOSE
