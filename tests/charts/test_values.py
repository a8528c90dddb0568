"""Values: what is wrong is refused with its place, and what is right reaches the operator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from rljob_chart.values import Values
from rljob_operator.settings import Settings

from .chart import CHART, DEFAULT, Refused, helm, of_kind, pod, rendered, the

PRIVATE = CHART / "ci" / "private-values.yaml"
MONITORING = CHART / "ci" / "monitoring-values.yaml"

WRONG = {
    "misspelt": ("replica=3", "additional properties 'replica' not allowed"),
    "nested": ("jobDefaults.storageClas=x", "at '/jobDefaults': additional properties 'storageClas' not allowed"),
    "type": ("replicas=many", "at '/replicas': got string, want integer"),
    "range": ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
    "choice": ("image.pullPolicy=Sometimes", "pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
    "digest": ("image.digest=abc", "'/image/digest': 'abc' does not match pattern '^(sha256:[0-9a-f]{64})?$'"),
}  # fmt: skip  # a line each


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_with_its_place_and_what_is_allowed(name: str) -> None:
    value, message = WRONG[name]
    with pytest.raises(Refused) as refusal:
        helm("template", CHART, "--set", value)
    assert message in str(refusal.value)


def settings(values: Path = CHART / "ci" / "default-values.yaml", *flags: str) -> Settings:
    """What the operator reads."""
    (text,) = the("ConfigMap", rendered(values, *flags))["data"].values()
    return Settings.model_validate_json(text)


def test_without_values_the_operator_gets_its_own_defaults_and_the_image_of_its_version() -> None:
    got = settings()
    version = got.job_defaults.image.removeprefix("rljob-trainer:")
    assert version[0].isdigit()
    assert got.job_defaults.progress_namespaces == ["rl-system"]
    filled = {"job_defaults": {"image", "progress_namespaces"}}
    assert got.model_dump(exclude=filled) == Settings().model_dump(exclude=filled)


@pytest.mark.parametrize("name", [info.alias for info in Settings.model_fields.values()])
def test_every_setting_reaches_the_operator(name: str, tmp_path: Path) -> None:
    field = next(key for key, info in Settings.model_fields.items() if info.alias == name)
    value = OTHER[name]
    (tmp_path / "values.yaml").write_text(json.dumps({name: value}))
    got = settings(tmp_path / "values.yaml").model_dump(mode="json", by_alias=True, include={field})[name]
    assert got == ({**got, **value} if isinstance(value, dict) else value)
    assert got != Settings().model_dump(mode="json", by_alias=True)[name]


OTHER = {
    "namespaces": ["a", "b"],
    "workers": 3,
    "progressPeriodSeconds": 7.5,
    "progressWritesPerSecond": 0.5,
    "jobDefaults": {
        "image": "other:1",
        "storageClassName": "fast",
        "nodeSelector": {"a": "b"},
        "caConfigMap": {"name": "trusted", "key": "bundle.pem"},
    },
    "command": ["mine"],
}


ELSEWHERE = {*OTHER, "enabled", "global"}
"""Settings, which are above, and what has no effect."""


def leaves(model: type[BaseModel], path: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        here, kind = f"{path}{info.alias or name}", info.annotation
        if here in ELSEWHERE:
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{here}.")
        else:
            yield here


@pytest.mark.parametrize("path", list(leaves(Values)))
def test_every_value_changes_what_is_made(path: str, tmp_path: Path) -> None:
    """And what is set is then in it."""
    value = VALUES[path]
    nested = reduce(lambda inner, key: {key: inner}, reversed(path.split(".")), value)
    (tmp_path / "values.yaml").write_text(json.dumps(nested))
    before, after = (
        json.dumps(rendered(MONITORING)),
        json.dumps(rendered(MONITORING, f"--values={tmp_path}/values.yaml")),
    )
    assert after != before
    if not isinstance(value, bool):
        assert (value if isinstance(value, str) else json.dumps(value)[1:-1]) in after


PORT = {"port": 7777}
LABEL = {"own": "label"}
VALUES: dict[str, object] = {
    "registry": "registry.example/own",
    "image.repository": "another-operator",
    "image.tag": "9.9.9",
    "image.digest": f"sha256:{'7' * 64}",
    "image.pullPolicy": "Always",
    "imagePullSecrets": ["own-registry"],
    "replicas": 4,
    "crds.install": False,
    "crds.keep": False,
    "rbac.create": False,
    "rbac.aggregate": False,
    "serviceAccount.create": False,
    "serviceAccount.name": "own-account",
    "serviceAccount.annotations": LABEL,
    "networkPolicy.enabled": False,
    "networkPolicy.metricsFrom": [{"podSelector": {"matchLabels": LABEL}}],
    "networkPolicy.apiServerPorts": [7777],
    "networkPolicy.dnsPorts": [7777],
    "networkPolicy.extraEgress": [{"ports": [PORT]}],
    "metrics.monitor.enabled": False,
    "metrics.monitor.interval": "77s",
    "metrics.monitor.labels": LABEL,
    "metrics.rules.enabled": False,
    "metrics.rules.labels": LABEL,
    "metrics.dashboards.enabled": False,
    "metrics.dashboards.labels": LABEL,
    "metrics.dashboards.annotations": LABEL,
    "podDisruptionBudget.enabled": False,
    "resources": {"limits": {"memory": "7Gi"}},
    "nodeSelector": LABEL,
    "tolerations": [{"key": "own", "operator": "Exists"}],
    "affinity": {"podAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 7, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "logLevel": "debug",
    "priorityClassName": "own-class",
    "podSecurityContext": {"fsGroup": 7777},
    "podLabels": LABEL,
    "podAnnotations": LABEL,
    "extraEnv": [{"name": "OWN", "value": "x"}],
    "extraVolumes": [{"emptyDir": {}, "name": "own"}],
    "extraVolumeMounts": [{"mountPath": "/own", "name": "own"}],
    "commonLabels": LABEL,
    "nameOverride": "own-name",
    "fullnameOverride": "own-fullname",
}


def test_what_is_set_for_the_operators_pods_is_where_the_api_server_looks_for_it() -> None:
    set_, objects = YAML(typ="safe").load(PRIVATE), rendered(PRIVATE)
    template, account = the("Deployment", objects)["spec"]["template"], the("ServiceAccount", objects)
    (container,) = template["spec"]["containers"]
    for name in ("priorityClassName", "nodeSelector", "tolerations", "topologySpreadConstraints"):
        assert template["spec"][name] == set_[name]
    for name, there in (
        ("extraEnv", container["env"]),
        ("extraVolumeMounts", container["volumeMounts"]),
        ("extraVolumes", template["spec"]["volumes"]),
    ):
        assert [one for one in set_[name] if one not in there] == []
    assert set_["podLabels"].items() <= template["metadata"]["labels"].items()
    assert set_["podAnnotations"].items() <= template["metadata"]["annotations"].items()
    assert account["metadata"]["annotations"] == set_["serviceAccount"]["annotations"]
    assert [
        one["kind"]
        for one in objects
        if not set_["commonLabels"].items() <= one["metadata"]["labels"].items()
    ] == []


def test_replicas_prefer_different_nodes_and_a_drain_takes_one_at_a_time() -> None:
    objects = rendered()
    labels = the("Deployment", objects)["spec"]["selector"]["matchLabels"]
    (preferred,) = pod(objects)["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    term = preferred["podAffinityTerm"]
    assert (term["topologyKey"], term["labelSelector"]["matchLabels"]) == ("kubernetes.io/hostname", labels)
    budget = the("PodDisruptionBudget", objects)["spec"]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, labels)
    alone = rendered(DEFAULT, "--set", "replicas=1")
    assert of_kind("PodDisruptionBudget", alone) == []


def test_the_registry_stands_before_both_images_and_a_digest_wins() -> None:
    objects = rendered(PRIVATE)
    (operator,) = pod(objects)["containers"]
    assert operator["image"].startswith("registry.example/team/rljob-operator@sha256:0123")
    assert settings(PRIVATE).job_defaults.image.startswith("registry.example/team/rljob-trainer:")


def test_another_setting_starts_the_operator_anew() -> None:
    def annotations(*flags: str) -> dict[str, str]:
        template = the("Deployment", rendered(CHART / "ci" / "default-values.yaml", *flags))["spec"][
            "template"
        ]
        return dict(template["metadata"]["annotations"])

    assert annotations("--set", "workers=9") != annotations() == annotations("--set", "replicas=3")


def test_openshift_may_choose_the_user_itself() -> None:
    security = pod(rendered(CHART / "ci" / "openshift-values.yaml"))["securityContext"]
    assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_chart_can_be_part_of_another(tmp_path: Path) -> None:
    """Helm hands a subchart `global` and the parent's `enabled`, and a strict schema must let them in."""
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "rljob-operator").symlink_to(CHART)
    (tmp_path / "Chart.yaml").write_text(
        json.dumps({"apiVersion": "v2", "name": "parent", "version": "1.0.0"})
    )
    values = {"global": {"x": 1}, "rljob-operator": {"enabled": True}}
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    assert "rljob-operator" in helm("template", tmp_path)


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("rljob", "rljob-operator"),
        ("rljob-operator", "rljob-operator"),
        ("my-rljob-operator", "my-rljob-operator"),
        ("x", "x-rljob-operator"),
    ],
)
def test_names_follow_the_release_without_saying_it_twice(release: str, name: str) -> None:
    assert f"kind: Deployment\nmetadata:\n  name: {name}\n" in helm("template", release, CHART)
