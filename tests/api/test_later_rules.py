"""A rule that is made after a job judges what is changed from then on, and hinders nobody who changes something else.

Each rule of today is tried as if it had come later, on the real API server.
"""

from __future__ import annotations

import pytest

from api.rule_cases import CASES
from api.test_api_server import JOBS, TRY, created
from kube.api import Api
from rljob_api.base import Manifest
from rljob_api.rules import RULES, Rule
from shell.places import Place

EACH_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


@pytest.fixture(scope="module")
def older(api_server: Api, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """For each rule a job that breaks it and was there before it."""
    with Place(api_server, "default", tmp_path_factory.mktemp("older")).without_rules():
        return {
            rule.name: created(api_server, f"older-{number}", CASES[rule.name].bad[0])
            for number, rule in enumerate(RULES)
        }


@EACH_RULE
def test_an_older_job_that_breaks_a_rule_is_suspended_scaled_and_told_of(
    api_server: Api, older: dict[str, Manifest], rule: Rule
) -> None:
    path = f"{JOBS}/{older[rule.name]['metadata']['name']}"
    for part, edit in (
        ("", {"spec": {"suspend": True}}),
        ("/scale", {"spec": {"replicas": 16}}),
        ("/status", {"status": {"phase": "Training"}}),
    ):
        answer = api_server.merge(f"{path}{part}?{TRY}", edit)
        assert answer.code == 200, answer.message


@EACH_RULE
def test_what_the_rule_looks_at_does_not_become_wrong_nor_wrong_in_another_way(
    api_server: Api, older: dict[str, Manifest], rule: Rule
) -> None:
    bad, good = CASES[rule.name]
    for number, right in enumerate(good):
        refused(api_server, rule, created(api_server, f"{rule.name}-{number}", right), bad[0])
    for other in bad[1:]:
        refused(api_server, rule, older[rule.name], other)


def refused(api: Api, rule: Rule, old: Manifest, spec: Manifest) -> None:
    answer = api.put(f"{JOBS}/{old['metadata']['name']}?{TRY}", {**old, "spec": spec})
    assert answer.code == 422, f"let {spec} through"
    assert rule.message in answer.message
