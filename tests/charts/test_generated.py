"""The chart's generated files are what the code says now, and its version is that of the project."""

from __future__ import annotations

import tomllib

import pytest
from ruamel.yaml import YAML

from rljob_api.crd import crd
from rljob_chart.generated import GENERATED

from .chart import CHART, ROOT, rendered, the


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_up_to_date(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert (ROOT / name).read_text() == GENERATED[name](), f"{name} is old: run `make crds`"


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = YAML(typ="safe").load(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (project, project)


def test_the_crd_is_the_one_of_the_models_under_another_metadata() -> None:
    assert the("CustomResourceDefinition", rendered())["spec"] == crd()["spec"]
