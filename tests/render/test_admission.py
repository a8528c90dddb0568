"""A real API server takes every golden, also in a namespace that enforces the strictest pod security standard."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from api.test_docs import ROOT, blocks
from kube.api import Answer, Api
from rljob_api.base import Manifest
from rljob_operator import names
from rljob_operator.cluster.resources import CHILD_KINDS
from rljob_operator.render.pod import USER_ID

GOLDENS = sorted(Path(__file__).with_name("goldens").glob("*.yaml"))
GUIDE = ROOT / "docs" / "guide.md"
NAMESPACE = "restricted"


@pytest.fixture(scope="module")
def restricted(api_server: Api) -> Api:
    """The API server, with a namespace that enforces `restricted` and has what the goldens refer to."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    created(api_server, "/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": labels}})
    for account in ("default", "trainer"):
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
        created(api_server, path, {"metadata": {"name": account}})
    priority = {"metadata": {"name": "research"}, "value": 1000}
    created(api_server, "/apis/scheduling.k8s.io/v1/priorityclasses", priority)
    runtime = {"metadata": {"name": "nvidia"}, "handler": "nvidia"}
    created(api_server, "/apis/node.k8s.io/v1/runtimeclasses", runtime)
    return api_server


def created(api: Api, path: str, body: Manifest) -> None:
    """It is there, made here or by another test."""
    answer = api.post(path, body)
    assert answer.code in {201, 409}, answer.message


def tried(api: Api, manifest: Manifest) -> Answer:
    path = CHILD_KINDS[manifest["kind"]].path(NAMESPACE)
    there = {**manifest, "metadata": {**manifest["metadata"], "namespace": NAMESPACE}}
    return api.post(f"{path}?dryRun=All&fieldValidation=Strict", there)


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.stem)
def test_every_object_of_a_golden_is_admitted(restricted: Api, golden: Path) -> None:
    manifests = list(YAML(typ="safe").load_all(golden))
    assert len(manifests) >= 8
    for manifest in manifests:
        answer = tried(restricted, manifest)
        assert answer.code == 201, answer.message


def test_that_namespace_takes_the_guides_pod_with_a_claim(restricted: Api) -> None:
    shown = [text for text in blocks("yaml", GUIDE) if "kind: RLJob" not in text]
    pod, claim = map(YAML(typ="safe").load, shown)
    for manifest in (pod, claim):
        answer = tried(restricted, manifest)
        assert answer.code == 201, answer.message
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["securityContext"]["runAsUser"] == USER_ID
    assert container["volumeMounts"] == [{"name": "claim", "mountPath": names.CLAIM_PATH}]
    (volume,) = pod["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == names.claim("boxed")


LOOSER: dict[str, dict[str, Any]] = {
    "root": {"securityContext": {"runAsUser": 0}},
    "the host's network": {"hostNetwork": True},
    "a host path": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]},
}


@pytest.mark.parametrize("name", LOOSER)
def test_that_namespace_refuses_what_is_looser(restricted: Api, name: str) -> None:
    pods = (one for one in YAML(typ="safe").load_all(GOLDENS[0]) if one["kind"] == "Pod")
    pod = copy.deepcopy(next(pods))
    pod["spec"] |= LOOSER[name]
    answer = tried(restricted, pod)
    assert answer.code in {403, 422}
