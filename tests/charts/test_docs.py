"""What the pages on installing tell people to type is what the chart takes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from kube.__main__ import install_steps
from rljob_chart.fields import leaves, values

from .chart import CHART, NAMESPACE, RELEASE, ROOT, Refused, helm

PAGES = [ROOT / "docs" / "install.md", CHART / "README.md", ROOT / "README.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VALUES = [
    pytest.param(text, id=f"{page.parent.name}-{number}")
    for page in PAGES
    for number, (kind, text) in enumerate(FENCE.findall(page.read_text()))
    if kind == "yaml" and text.startswith("# values.yaml")
]
INSTALLS = sorted(
    {
        line
        for page in PAGES
        for kind, text in FENCE.findall(page.read_text())
        if not kind
        for line in text.splitlines()
        if line.startswith("helm install")
    }
)


def test_the_pages_show_values_and_commands() -> None:
    assert len(VALUES) >= 4
    assert len(INSTALLS) >= 3


@pytest.mark.parametrize("text", VALUES)
def test_the_values_that_a_page_shows_are_taken(text: str, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(text)
    assert "kind: Deployment" in helm("template", CHART, "--values", tmp_path / "values.yaml")


@pytest.mark.parametrize("line", INSTALLS)
def test_the_commands_that_a_page_shows_are_taken(line: str) -> None:
    is_taken(line)


def is_taken(line: str) -> None:
    words = shlex.split(line.replace("$REGISTRY", "registry.example/team"))
    _, _, name, chart, *flags = words
    assert chart == "charts/rljob-operator"
    assert "kind: Deployment" in helm(
        "template", name, ROOT / chart, *flags[: flags.index("--wait")] if "--wait" in flags else flags
    )


def test_what_a_cluster_with_our_images_tells_to_type_is_taken() -> None:
    images = {
        "rljob-operator": "localhost/rljob-operator:0123",
        "rljob-trainer": "localhost/rljob-trainer:4567",
    }
    (line,) = [line.strip() for line in install_steps(images).splitlines() if "helm install" in line]
    is_taken(line)
    assert all(image.rpartition(":")[0] in line for image in images.values())


def test_every_value_that_is_named_in_a_page_exists() -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    known = {value.path for value in leaves(values())}
    named = {
        name
        for name in re.findall(r"`([a-z]\w+(?:\.\w+)+)(?:=\w+)?`", text)
        if name.split(".")[0] in sections()
    }
    assert named - known == set()
    assert len(named) > 5


def sections() -> set[str]:
    return {value.name for value in values() if value.below}


def test_a_value_that_does_not_exist_would_be_refused(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(json.dumps({"jobdefaults": {}}))
    with pytest.raises(Refused, match="jobdefaults"):
        helm("template", CHART, "--values", tmp_path / "values.yaml")


@pytest.mark.parametrize(("flags", "where"), [((), ""), (("--set", "namespaces={team-a,bad}"), " -n team-a")])
def test_the_notes_name_the_namespace_that_is_looked_after(flags: tuple[str, ...], where: str) -> None:
    told = helm("install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", *flags)
    notes = told.partition("\nNOTES:\n")[2].splitlines()
    about_jobs = [
        "kubectl apply -f examples/addition-cpu.yaml",
        "kubectl get rljobs -w",
        "kubectl wait --for=condition=Complete rljob/NAME --timeout=24h",
        "kubectl rljob submit FILE",
        "kubectl rljob status | logs | events NAME",
        "kubectl describe rljob NAME",
    ]
    assert [line for line in about_jobs if f"  {line}{where}" not in notes] == []
    assert notes[0].startswith("rljob-operator ")
