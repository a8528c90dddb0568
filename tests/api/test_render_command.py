"""`rljob render`: what the operator would create, without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from api.test_command_line import rljob
from kube.api import Api
from rljob_operator.cluster.resources import CHILD_KINDS

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_api_server_takes_what_is_printed(api_server: Api, example: Path) -> None:
    account = api_server.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    assert account.code in {201, 409}
    printed = list(YAML(typ="safe").load_all(rljob("render", str(example)).stdout))
    assert {"Pod", "ConfigMap", "Service", "NetworkPolicy"} <= {one["kind"] for one in printed}
    for manifest in printed:
        path = CHILD_KINDS[manifest["kind"]].path("default")
        answer = api_server.post(f"{path}?dryRun=All&fieldValidation=Strict", manifest)
        assert answer.code == 201, answer.message


def test_namespace_and_settings_are_taken(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"jobDefaults": {"image": "mine:1"}}')
    text = rljob("render", str(EXAMPLES[0]), "-n", "team", "--settings", str(settings)).stdout
    printed = list(YAML(typ="safe").load_all(text))
    assert {one["metadata"]["namespace"] for one in printed} == {"team"}
    images = {one["spec"]["containers"][0]["image"] for one in printed if one["kind"] == "Pod"}
    assert images == {"mine:1"}
