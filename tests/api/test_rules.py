"""Each rule in the models alone; `test_api_server.py` tries the same cases on a real API server."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from api.jobs import parsed
from api.rule_cases import CASES, EDITS
from rljob_api.job import ACCEPTED, JobSpec
from rljob_api.rules import EDIT_RULES, RESERVED_VLLM_ARGS, RULES, BrokenRulesError, broken_edit_rules
from rljob_api.run import Paths, Run
from rljob_trainer.rollout.server import arguments


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
def test_a_run_that_began_is_read_whatever_rules_came_since(name: str) -> None:
    for bad in CASES[name].bad:
        spec = JobSpec.model_validate_json(json.dumps(bad), context=ACCEPTED)
        begun = run(0).model_copy(update={"spec": spec})
        assert Run.model_validate_json(begun.model_dump_json(by_alias=True)) == begun


def test_a_world_that_does_not_divide_is_told_with_its_numbers() -> None:
    bad = {"trainer": {"numNodes": 3, "numProcPerNode": 3}, "parallelism": {"tensor": 2}}
    with pytest.raises(ValidationError, match="9 is not a multiple of 2: ranks "):
        parsed(**bad)


@pytest.mark.parametrize("name", CASES)
def test_the_good_specs_break_none(name: str) -> None:
    for good in CASES[name].good:
        JobSpec.parse(good)


@pytest.mark.parametrize("name", EDITS)
def test_the_bad_edits_break_this_rule_and_the_good_edits_none(name: str) -> None:
    for bad in EDITS[name].bad:
        assert [rule.name for rule in broken_edit_rules(JobSpec.parse(bad.old), JobSpec.parse(bad.new))] == [
            name
        ]
    for good in EDITS[name].good:
        assert broken_edit_rules(JobSpec.parse(good.old), JobSpec.parse(good.new)) == []


TASTE = "--disable-uvicorn-access-log"
"""What a user may put otherwise: nothing of ours depends on it."""


@pytest.mark.parametrize("gpus", [0, 1])
def test_every_argument_that_the_rollout_pod_sets_is_reserved(gpus: int) -> None:
    set_by_us = [each for each in arguments(run(gpus), "model", "host") if each.startswith("--")]
    assert "--weight-transfer-config" in set_by_us
    assert [each for each in set_by_us if each not in RESERVED_VLLM_ARGS] == [TASTE]


def run(gpus: int) -> Run:
    """A run whose rollout pods get every argument there is."""
    model = {"source": "x/y", "trustRemoteCode": True}
    rollout = {"vllm": {"maxModelLen": 4096, "enforceEager": True}}
    return Run(
        name="a",
        namespace="default",
        uid="u",
        attempt=1,
        token="t",
        spec=parsed(model=model, rollout=rollout, trainer={"gpusPerNode": gpus}),
        paths=Paths(storage="/s", cache="/c"),
        master_addr="h",
        master_port=1,
        progress_port=2,
        rollout_hosts=["r"],
        rollout_port=3,
    )
