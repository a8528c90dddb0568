"""The files made from the models are what the models say now."""

from __future__ import annotations

from pathlib import Path

import pytest

from rljob_api.fields import below, field
from rljob_api.generated import GENERATED

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text() == GENERATED[name](), f"{name} is old: run `make crds`"


@pytest.mark.parametrize("root", ["spec", "status"])
def test_every_field_says_what_it_changes_or_means_and_knows_its_kind(root: str) -> None:
    fields = list(below(field(root)))
    assert len(fields) > 80
    assert [each.path for each in fields if not each.description.endswith((".", "`"))] == []
    assert all(each.kind for each in fields)
    assert all(field(each.path) == each for each in fields)


def test_every_text_list_and_map_of_the_spec_is_bounded_for_the_cost_of_rules() -> None:
    bounds = {"string": {"maxLength", "pattern", "enum"}, "array": {"maxItems"}}
    for each in below(field("spec")):
        wanted = bounds.get(each.schema.get("type", ""), set())
        assert not wanted or wanted & each.schema.keys(), each.path
