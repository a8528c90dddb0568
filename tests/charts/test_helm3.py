"""The oldest Helm that install.md names makes of the chart what the newest makes, and does what a user does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.jobs import job
from kube.fixtures import skipped_if_unavailable, wait_until_established
from kube.programs import programs

from .chart import CHART, RELEASE, VARIANTS, documents, helm
from .conftest import Blank
from .test_install import CRD, JOBS, OPERATOR, cluster, newer_chart, where

__all__ = ["cluster"]


@pytest.fixture(scope="module", autouse=True)
def helm3() -> None:
    with skipped_if_unavailable():
        programs("helm3")


def test_it_is_the_oldest_that_the_docs_name() -> None:
    said = helm("version", "--template", "{{.Version}}", program="helm3")
    assert "Helm 3.14 and newer" in (CHART.parents[1] / "docs" / "install.md").read_text()
    assert said.startswith("v3.14")


@pytest.mark.parametrize("values", VARIANTS, ids=lambda path: path.stem)
def test_it_makes_the_same_objects(values: Path) -> None:
    old, new = (
        documents(
            helm("template", RELEASE, CHART, "--values", values, "--kube-version", "1.35", program=program)
        )
        for program in ("helm3", "helm")
    )
    assert sorted(map(str, old)) == sorted(map(str, new))


def test_it_installs_upgrades_and_uninstalls_and_a_newer_one_takes_over(
    cluster: Blank, tmp_path: Path
) -> None:
    helm(
        "install",
        RELEASE,
        CHART,
        *where(cluster),
        "--create-namespace",
        "--set",
        "replicas=3",
        program="helm3",
    )
    wait_until_established(cluster.api)
    assert cluster.api.post(JOBS, job("kept")).code == 201
    helm(
        "upgrade",
        RELEASE,
        newer_chart(tmp_path),
        *where(cluster),
        "--reset-then-reuse-values",
        program="helm3",
    )
    columns = wait_until_established(cluster.api)["spec"]["versions"][0]["additionalPrinterColumns"]
    assert "Newer" in [column["name"] for column in columns]
    assert cluster.api.get(OPERATOR).body["spec"]["replicas"] == 3
    helm("upgrade", RELEASE, CHART, *where(cluster), "--reset-then-reuse-values")
    assert cluster.api.get(OPERATOR).body["spec"]["replicas"] == 3
    helm("uninstall", RELEASE, *where(cluster), program="helm3")
    assert cluster.api.get(OPERATOR).code == 404
    assert cluster.api.get(CRD).code == cluster.api.get(f"{JOBS}/kept").code == 200
    cluster.api.delete(f"{JOBS}/kept")
