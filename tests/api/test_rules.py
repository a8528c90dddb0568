"""Each rule in the models alone; `test_api_server.py` tries the same cases on a real API server."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from api.rule_cases import CASES, EDITS
from rljob_api.job import JobSpec
from rljob_api.rules import EDIT_RULES, RULES, BrokenRulesError, broken_edit_rules


def test_each_rule_has_cases() -> None:
    assert list(CASES) == [rule.name for rule in RULES]
    assert list(EDITS) == [rule.name for rule in EDIT_RULES]


@pytest.mark.parametrize("name", CASES)
def test_the_bad_specs_break_this_rule_and_no_other(name: str) -> None:
    for bad in CASES[name].bad:
        with pytest.raises(ValidationError) as refusal:
            JobSpec.parse(bad)
        (error,) = refusal.value.errors()
        broken = error["ctx"]["error"]
        assert isinstance(broken, BrokenRulesError)
        assert [rule.name for rule in broken.rules] == [name]


@pytest.mark.parametrize("name", CASES)
def test_the_good_specs_break_none(name: str) -> None:
    for good in CASES[name].good:
        JobSpec.parse(good)


@pytest.mark.parametrize("name", EDITS)
def test_the_bad_edit_breaks_this_rule_and_the_good_edit_none(name: str) -> None:
    bad, good = EDITS[name]
    assert [rule.name for rule in broken_edit_rules(JobSpec.parse(bad.old), JobSpec.parse(bad.new))] == [name]
    assert broken_edit_rules(JobSpec.parse(good.old), JobSpec.parse(good.new)) == []
