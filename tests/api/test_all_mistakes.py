"""`rljob validate` tells rules and paths beside fields that do not fit, and nothing that only follows from those."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.jobs import job, spec
from api.mistakes import SCHEMA_MISTAKES
from api.rule_cases import CASES
from rljob_api.base import Manifest
from rljob_api.fields import field
from rljob_api.rules import RULES, Rule
from rljob_cli.validate import problems_of

ELSEWHERE = {"logging": {"tensorboard": "yes"}}
"""A value that does not fit, at a field that no rule looks at."""


def told(folder: Path, written: Manifest) -> dict[str, str]:
    """What is said of a job with this spec, by the path that it is said of."""
    file = folder / "job.yaml"
    file.write_text(json.dumps(job(spec_=written)))
    return {problem.path: problem.message for problem in problems_of(file)}


def test_misfits_rules_and_paths_are_told_at_once(tmp_path: Path) -> None:
    written: Manifest = {
        "model": {"source": "./none"},
        "data": {"train": {"source": "none.jsonl"}},
        "reward": {"builtin": "math", "python": {"module": "mine", "function": "score"}},
        "trainer": {"numProcPerNode": "two"},
        "rollout": {"replicas": 0},
        "weightSinc": {},
    }
    assert list(told(tmp_path, written)) == [
        "spec.model.source",
        "spec.data.train.source",
        "spec.reward",
        "spec.trainer.numProcPerNode",
        "spec.rollout.replicas",
        "spec.weightSinc",
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_broken_rule_is_told_beside_a_misfit_that_it_does_not_look_at(rule: Rule, tmp_path: Path) -> None:
    for bad in CASES[rule.name].bad:
        found = told(tmp_path, {**bad, **ELSEWHERE})
        assert found.keys() == {"spec.logging.tensorboard", f"spec.{rule.path}"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_looks_at_fields_that_exist(rule: Rule) -> None:
    fields = rule.reads | rule.asks_for
    assert fields
    for path in fields:
        field(f"spec.{path}")


@pytest.mark.parametrize(
    ("sections", "misfit"),
    [
        ({"rollout": {"replicas": "4", "minReplicas": 3}}, "spec.rollout.replicas"),
        ({"rollout": {"replica": 4, "minReplicas": 3}}, "spec.rollout.replica"),
        ({"trainer": {"gpusPerNode": 65}, "weightSync": {"transport": "nccl"}}, "spec.trainer.gpusPerNode"),
        ({"trainer": [], "weightSync": {"transport": "nccl"}}, "spec.trainer"),
        ({"reward": {"python": {"module": "mine"}}}, "spec.reward.python.function"),
        ({"reward": {"builtn": "math"}}, "spec.reward.builtn"),
        ({"checkpoint": {"storage": {"accessModes": ["Any"]}}}, "spec.checkpoint.storage.accessModes[0]"),
        ({"model": {"source": "/mnt/model"}, "trainer": {"volumeMounts": [{}]}}, None),
    ],
)
def test_what_depends_on_a_misfit_is_not_told(sections: Manifest, misfit: str | None, tmp_path: Path) -> None:
    found = told(tmp_path, spec(**sections))
    assert list(found) == [misfit] if misfit else not [path for path in found if "model" in path]


def test_a_section_with_a_misfit_is_still_there(tmp_path: Path) -> None:
    block = {"megatron": {"optimizer": {"beta1": 2}}}
    found = told(tmp_path, spec(backend="dtensor", **block))
    assert list(found) == ["spec.megatron", "spec.megatron.optimizer.beta1"]


def test_items_of_a_list_are_taken_out_where_they_stand(tmp_path: Path) -> None:
    rules: list[Manifest] = [
        {},
        {"name": "own", "action": "FailJob", "onExitCodes": {"values": [1, "2"]}},
        {},
    ]
    found = told(tmp_path, spec(failurePolicy={"rules": rules}, weightSync={"transport": "nccl"}))
    of_rules = [f"spec.failurePolicy.rules[{item}].{name}" for item in (0, 2) for name in ("name", "action")]
    value = "spec.failurePolicy.rules[1].onExitCodes.values[1]"
    assert found.keys() == {*of_rules, value, "spec.weightSync.transport"}


@pytest.mark.parametrize("name", SCHEMA_MISTAKES)
def test_a_mistake_in_a_field_has_no_others_in_its_train(name: str, tmp_path: Path) -> None:
    assert len(told(tmp_path, SCHEMA_MISTAKES[name])) == 1
