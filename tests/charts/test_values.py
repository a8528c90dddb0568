"""Values: what is wrong is refused with its place, and what is right reaches the operator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rljob_operator.settings import Settings

from .chart import CHART, Refused, helm, pod, rendered, the

PRIVATE = CHART / "ci" / "private-values.yaml"

WRONG = {
    "misspelt": ("replica=3", "additional properties 'replica' not allowed"),
    "nested": ("jobDefaults.storageClas=x", "at '/jobDefaults': additional properties 'storageClas' not allowed"),
    "type": ("replicas=many", "at '/replicas': got string, want integer"),
    "range": ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
    "choice": ("image.pullPolicy=Sometimes", "pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
    "digest": ("image.digest=abc", "'/image/digest': 'abc' does not match pattern '^(sha256:[0-9a-f]{64})?$'"),
}  # fmt: skip


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
