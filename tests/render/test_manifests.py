"""Whole manifests against goldens. After a wanted change: `RLJOB_WRITE_GOLDENS=1 pytest tests/render`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from builders import a_job, a_status
from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_api.run import RUN_FILE, Run
from rljob_operator.decide import Decision, Goal, PodStart
from rljob_operator.render import render
from rljob_operator.settings import JobDefaults, Settings

GOLDENS = Path(__file__).with_name("goldens")
STARTS = (
    PodStart(RoleName.TRAINER, 0, "demo-trainer-0-1"),
    PodStart(RoleName.TRAINER, 1, "demo-trainer-1-1"),
    PodStart(RoleName.ROLLOUT, 0, "demo-rollout-0-0"),
)
ON_CPU: dict[str, Any] = {"trainer": {"numNodes": 2}}
ON_GPU: dict[str, Any] = {
    "trainer": {
        "numNodes": 2,
        "gpusPerNode": 8,
        "image": "example/trainer:1",
        "env": [{"name": "NCCL_DEBUG", "value": "WARN"}],
        "resources": {"requests": {"memory": "64Gi"}, "limits": {"memory": "64Gi"}},
    },
    "rollout": {"tensorParallel": 4},
    "accelerator": {"resourceName": "example.com/gpu"},
    "checkpoint": {
        "storage": {"size": "500Gi", "storageClassName": "nfs"},
        "onPreemption": {"gracePeriodSeconds": 120},
    },
}


def rendered(**spec: Any) -> list[Manifest]:
    decision = Decision(Goal.RUN, "FirstAttempt", start=STARTS)
    return render(
        a_job(a_status(), **spec),
        decision,
        "control-token",
        Settings(job_defaults=JobDefaults(image="rljob-trainer:test")),
    )


@pytest.mark.parametrize(("name", "spec"), [("cpu", ON_CPU), ("gpu", ON_GPU)])
def test_manifests_equal_their_goldens(name: str, spec: dict[str, Any]) -> None:
    golden = GOLDENS / f"{name}.yaml"
    manifests = [without_run(manifest) for manifest in rendered(**spec)]
    if os.environ.get("RLJOB_WRITE_GOLDENS"):
        GOLDENS.mkdir(exist_ok=True)
        yaml = YAML()
        yaml.representer.ignore_aliases = lambda _: True
        yaml.dump_all(manifests, golden)
    assert list(YAML(typ="safe").load_all(golden)) == manifests


def without_run(manifest: Manifest) -> Manifest:
    """The Run is compared by itself below: it changes with every new field of the API."""
    return manifest | {"data": {RUN_FILE: "…"}} if manifest["kind"] == "ConfigMap" else manifest


def test_the_config_map_carries_the_whole_run() -> None:
    (config_map,) = [one for one in rendered(**ON_GPU) if one["kind"] == "ConfigMap"]
    run = Run.model_validate_json(config_map["data"][RUN_FILE])
    assert run.spec == a_job(**ON_GPU).spec
    assert (run.attempt, run.token) == (1, "1-token")
    assert run.master_addr == "demo-trainer-0.demo"
    assert run.rollout_hosts == ["demo-rollout-0.demo"]


def test_the_control_token_is_in_the_secret_alone() -> None:
    kinds = [one["kind"] for one in rendered(**ON_GPU) if "control-token" in str(one)]
    assert kinds == ["Secret"]


def test_nothing_is_rendered_when_nothing_starts() -> None:
    assert render(a_job(a_status()), Decision(Goal.RUN, ""), "t", Settings()) == []


def test_an_existing_claim_is_mounted_and_not_made() -> None:
    manifests = rendered(checkpoint={"storage": {"claimName": "shared"}})
    assert "PersistentVolumeClaim" not in [one["kind"] for one in manifests]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for one in manifests
        if one["kind"] == "Pod"
        for volume in one["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"shared"}


def test_the_users_environment_wins() -> None:
    env = [{"name": "OMP_NUM_THREADS", "value": "2"}]
    pod = next(one for one in rendered(trainer={"env": env}) if one["kind"] == "Pod")
    values = [one for one in pod["spec"]["containers"][0]["env"] if one["name"] == "OMP_NUM_THREADS"]
    assert [one["value"] for one in values] == ["2"]
