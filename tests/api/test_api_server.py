"""The CRD on a real API server: it says the same as the models, to good specs and to bad ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.jobs import job, spec
from api.mistakes import SCHEMA_MISTAKES, TOLERATED
from api.rule_cases import CASES, EDITS, Edit
from builders import a_checkpoint
from kube.api import Answer, Api
from kube.fixtures import wait_until_established
from rljob_api.base import Manifest
from rljob_api.crd import crd
from rljob_api.job import MAX_NAME, JobSpec, RLJob
from rljob_api.rules import EDIT_RULES, RULES, EditRule, Rule
from rljob_cli.document import read_document

JOBS = "/apis/rljob.io/v1alpha1/namespaces/default/rljobs"
TRY = "dryRun=All&fieldValidation=Strict"
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def tried(api: Api, spec_: Manifest, name: str = "a") -> Answer:
    """The API server's answer to a job, without keeping it."""
    return api.post(f"{JOBS}?{TRY}", job(name, spec_))


def created(api: Api, name: str, spec_: Manifest) -> Manifest:
    """A job that the API server keeps."""
    answer = api.post(f"{JOBS}?fieldValidation=Strict", job(name, spec_))
    assert answer.code == 201, answer.message
    return answer.body


def causes(answer: Answer) -> set[tuple[str, str]]:
    """Field and message of each reason for a refusal."""
    return {(cause["field"], cause["message"]) for cause in answer.body["details"]["causes"]}


def test_the_crd_is_established_without_complaints(api_server: Api) -> None:
    conditions = {
        each["type"]: each["status"] for each in wait_until_established(api_server)["status"]["conditions"]
    }
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_held_with_the_same_words_at_the_same_field(api_server: Api, rule: Rule) -> None:
    for bad in CASES[rule.name].bad:
        answer = tried(api_server, bad)
        assert answer.code == 422, f"let {bad} through"
        ((field, said),) = causes(answer)
        assert field == f"spec.{rule.path}"
        assert said.endswith(rule.message)
    for good in CASES[rule.name].good:
        answer = tried(api_server, good)
        assert answer.code == 201, answer.message


@pytest.mark.parametrize("rule", EDIT_RULES, ids=lambda rule: rule.name)
def test_an_edit_rule_is_held(api_server: Api, rule: EditRule) -> None:
    for number, bad in enumerate(EDITS[rule.name].bad):
        refusal = edited(api_server, f"{rule.name}-bad-{number}", bad)
        assert refusal.code == 422, f"let {bad} through"
        assert rule.message in refusal.message
    for number, good in enumerate(EDITS[rule.name].good):
        answer = edited(api_server, f"{rule.name}-good-{number}", good)
        assert answer.code == 200, answer.message


def edited(api: Api, name: str, edit: Edit) -> Answer:
    """The API server's answer to a change of a job."""
    old = created(api, name, edit.old)
    return api.put(f"{JOBS}/{name}?{TRY}", {**old, "spec": edit.new})


@pytest.mark.parametrize("name", SCHEMA_MISTAKES)
def test_a_mistake_in_one_field_is_refused_by_both(api_server: Api, name: str) -> None:
    bad = SCHEMA_MISTAKES[name]
    assert tried(api_server, bad).code in {400, 422}
    with pytest.raises(ValidationError):
        JobSpec.parse(bad)


@pytest.mark.parametrize("name", TOLERATED)
def test_what_one_side_tolerates_the_other_does_too(api_server: Api, name: str) -> None:
    answer = tried(api_server, TOLERATED[name])
    assert answer.code == 201, answer.message
    assert answer.body["spec"] == defaulted(TOLERATED[name])


def defaulted(spec_: Manifest) -> Manifest:
    """A spec with the defaults of the models. Absent stays absent: the API server does not write null."""
    return JobSpec.parse(spec_).model_dump(mode="json", by_alias=True, exclude_none=True)


GOOD = {
    "least": spec(),
    "blocks": spec(megatron={}, dtensor={"optimizer": {"beta1": 0.5}}),
    "lists": spec(
        trainer={"env": [{"name": "A"}]}, checkpoint={"keepTopK": {"count": 1, "metric": "train:kl"}}
    ),
    **{path.stem: read_document(path).data["spec"] for path in EXAMPLES},
}


@pytest.mark.parametrize("name", GOOD)
def test_the_defaults_of_the_api_server_are_those_of_the_models(api_server: Api, name: str) -> None:
    answer = tried(api_server, GOOD[name])
    assert answer.code == 201, answer.message
    assert answer.body["spec"] == defaulted(GOOD[name])


@pytest.mark.parametrize(
    "name",
    ["a" * MAX_NAME, "a-1", "a" * (MAX_NAME + 1), "1a", "a.b", "A", "a-"],
    ids=lambda name: name[:5] + str(len(name)),
)
def test_names_are_the_same_to_both(api_server: Api, name: str) -> None:
    accepted = tried(api_server, spec(), name).code == 201
    try:
        RLJob.parse(job(name))
    except ValidationError:
        assert not accepted
    else:
        assert accepted


def test_a_job_without_spec_is_refused(api_server: Api) -> None:
    body = job()
    del body["spec"]
    answer = api_server.post(f"{JOBS}?{TRY}", body)
    assert (answer.code, "spec: Required value" in answer.message) == (422, True)


def test_scaling_changes_the_rollout_servers_and_keeps_the_rules(api_server: Api) -> None:
    created(api_server, "scaled", spec(rollout={"replicas": 2, "minReplicas": 2}))
    scale = api_server.get(f"{JOBS}/scaled/scale").body
    assert scale["spec"] == {"replicas": 2}
    assert api_server.merge(f"{JOBS}/scaled/scale", {"spec": {"replicas": 3}}).code == 200
    assert api_server.get(f"{JOBS}/scaled").body["spec"]["rollout"]["replicas"] == 3
    refused = api_server.merge(f"{JOBS}/scaled/scale", {"spec": {"replicas": 1}})
    assert "rollout.replicas" in refused.message


STATUS = {
    "phase": "Training",
    "backend": "dtensor",
    "message": "All is well.",
    "restarts": 1,
    "goodput": {"percent": "96.8"},
    "checkpoint": {"latest": a_checkpoint(400).model_dump(mode="json", by_alias=True, exclude_none=True)},
    "trainer": {"replicas": 1, "ready": "1/1"},
    "rollout": {"replicas": 2, "ready": "2/2", "selector": "rljob.io/name=seen"},
    "progress": {"step": 3, "display": "3/60", "metrics": [{"name": "reward", "value": "0.5"}]},
}


def test_a_status_is_written_apart_from_the_spec_and_shown_in_columns(api_server: Api) -> None:
    body = copy.deepcopy(created(api_server, "seen", spec()))
    answer = api_server.merge(f"{JOBS}/seen/status", {"status": STATUS, "spec": {"suspend": True}})
    assert answer.code == 200, answer.message
    assert answer.body["status"] == STATUS
    assert answer.body["spec"] == body["spec"]
    table = api_server.get(f"{JOBS}/seen", accept=AS_TABLE).body
    names = [column["name"].upper() for column in table["columnDefinitions"]]
    shown = ["NAME", "BACKEND", "PHASE", "STEP", "REWARD", "CKPT", "TRAINERS", "ROLLOUTS", "RESTARTS"]
    wide = ["CKPT-AGE", "GOODPUT", "MESSAGE"]
    assert names == [*shown, "AGE", *wide]
    priorities = [column["priority"] for column in table["columnDefinitions"]]
    assert priorities == [0] * len([*shown, "AGE"]) + [1] * len(wide), "all but the last only with `-o wide`"
    row = dict(zip(names, table["rows"][0]["cells"], strict=True))
    assert [row[name] for name in ("GOODPUT", "MESSAGE")] == ["96.8", "All is well."]
    assert row["CKPT-AGE"] not in (None, "<unknown>", "<invalid>")
    assert [row[name] for name in shown] == [
        "seen",
        "dtensor",
        "Training",
        "3/60",
        "0.5",
        400,
        "1/1",
        "2/2",
        1,
    ]


def test_a_whole_status_of_the_models_is_accepted(api_server: Api) -> None:
    from rljob_api.status import AttemptStatus, CheckpointStatus, Condition, Failure, Status

    status = Status(
        attempt=AttemptStatus(number=1, exactness="Exact"),
        conditions=[Condition(type="Accepted", status="True", reason="Fine")],
        checkpoint=CheckpointStatus(latest=a_checkpoint()),
        failures=[Failure(role="trainer", rank=0, attempt=1)],
    ).model_dump(mode="json", by_alias=True, exclude_none=True)
    created(api_server, "whole", spec())
    answer = api_server.merge(f"{JOBS}/whole/status?fieldValidation=Strict", {"status": status})
    assert answer.code == 200, answer.message
    assert answer.body["status"] == status


def test_the_crd_fits_into_the_annotation_of_a_client_side_apply() -> None:
    assert len(json.dumps(crd())) < 262_144 * 0.6
