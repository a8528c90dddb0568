"""`rljob render`: what the operator would create, without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from api.test_command_line import rljob
from kube.api import Api, Manifest
from rljob_operator.cluster.resources import CHILD_KINDS

RESEARCH = {"metadata": {"name": "research"}, "value": 1000}
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_api_server_takes_what_is_printed(api_server: Api, example: Path) -> None:
    has(api_server, "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    has(api_server, "/apis/scheduling.k8s.io/v1/priorityclasses", RESEARCH)
    printed = list(YAML(typ="safe").load_all(rljob("render", str(example)).stdout))
    assert {"Pod", "ConfigMap", "Service", "NetworkPolicy"} <= {one["kind"] for one in printed}
    for manifest in printed:
        path = CHILD_KINDS[manifest["kind"]].path("default")
        answer = api_server.post(f"{path}?dryRun=All&fieldValidation=Strict", manifest)
        assert answer.code == 201, answer.message


def has(api: Api, path: str, body: Manifest) -> None:
    """It is there, made here or by another test."""
    answer = api.post(path, body)
    assert answer.code in {201, 409}, answer.message


def test_namespace_and_settings_are_taken(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"jobDefaults": {"image": "mine:1"}}')
    text = rljob("render", str(EXAMPLES[-1]), "-n", "team", "--settings", str(settings)).stdout
    printed = list(YAML(typ="safe").load_all(text))
    assert {one["metadata"]["namespace"] for one in printed} == {"team"}
    images = {one["spec"]["containers"][0]["image"] for one in printed if one["kind"] == "Pod"}
    assert images == {"mine:1"}
