"""The table of what reaches which library: its fields exist, and so do the arguments of what is installed."""

from __future__ import annotations

import inspect
from functools import reduce
from importlib import import_module
from typing import Any

import pytest

from rljob_api.fields import field
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
