"""Every variant of the chart that `ci/` names is what an API server takes, and is hardened."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kube.api import Manifest
from kube.programs import programs

from .chart import CHART, VARIANTS, helm, of_kind, pod, rendered, the

FOREIGN = "ServiceMonitor,PodMonitor,PrometheusRule"
"""Kinds of the Prometheus Operator."""

each_variant = pytest.mark.parametrize("values", VARIANTS, ids=lambda path: path.stem)


@each_variant
def test_helm_finds_no_fault(values: Path) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "--strict", CHART, "--values", values)


@each_variant
def test_every_object_fits_the_schemas_of_the_api_server(values: Path, schemas: str, tmp_path: Path) -> None:
    assert kubeconform(helm("template", CHART, "--values", values), schemas, tmp_path) == ""


def test_a_misspelt_field_would_be_found(schemas: str, tmp_path: Path) -> None:
    text = helm("template", CHART).replace("readinessProbe", "readynessProbe")
    assert "readynessProbe" in kubeconform(text, schemas, tmp_path)


def kubeconform(text: str, schemas: str, folder: Path) -> str:
    """What it says: nothing when all is well."""
    (folder / "all.yaml").write_text(text)
    program = programs("kubeconform")["kubeconform"]
    command = [str(program), "-schema-location", schemas, "-skip", FOREIGN, str(folder / "all.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout


@each_variant
def test_pods_are_allowed_in_a_restricted_namespace(values: Path) -> None:
    pods = [pod(rendered(values)), the("Pod", rendered(values))["spec"]]
    for spec in pods:
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@each_variant
def test_selectors_find_the_operator_and_nothing_else(values: Path) -> None:
    objects = rendered(values)
    labels = the("Deployment", objects)["spec"]["template"]["metadata"]["labels"]
    for selector in selectors(objects):
        assert selector.items() <= labels.items()
    assert not the("Service", objects)["spec"]["selector"].items() <= (
        the("Pod", objects)["metadata"]["labels"].items()
    )


def selectors(objects: list[Manifest]) -> list[Manifest]:
    return [
        the("Deployment", objects)["spec"]["selector"]["matchLabels"],
        the("Service", objects)["spec"]["selector"],
        *(each["spec"]["selector"]["matchLabels"] for each in of_kind("PodDisruptionBudget", objects)),
        *(each["spec"]["podSelector"]["matchLabels"] for each in of_kind("NetworkPolicy", objects)),
    ]
