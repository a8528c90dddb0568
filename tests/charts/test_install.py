"""`helm install`, `upgrade` and `uninstall` on a real API server: its objects, its CRD, the jobs that are there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.jobs import job
from kube.fixtures import CRDS, wait_until_established
from kube.pods import eventually
from rljob_api.crd import crd
from rljob_cli.load import load_job
from rljob_operator.cluster.rights import JOB_RIGHTS, Right

from .chart import CHART, NAMESPACE, RELEASE, ROOT, Refused, helm
from .conftest import Blank

CRD = f"{CRDS}/rljobs.rljob.io"
JOBS = "/apis/rljob.io/v1alpha1/namespaces/default/rljobs"
OPERATOR = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/rl-rljob-operator"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@pytest.fixture
def cluster(blank: Blank) -> Iterator[Blank]:
    """Without the chart and without the CRD, before and after."""
    yield blank
    helm("uninstall", RELEASE, *where(blank), "--ignore-not-found")
    blank.api.delete(CRD)
    eventually(lambda: blank.api.get(CRD).code == blank.api.get(JOBS).code == 404, "the CRD is gone")


def where(cluster: Blank) -> list[str]:
    return ["--kubeconfig", str(cluster.kubeconfig), "--namespace", NAMESPACE]


def install(cluster: Blank, *flags: str) -> str:
    return helm("install", RELEASE, CHART, *where(cluster), "--create-namespace", *flags)


def may(cluster: Blank, right: Right, verb: str, namespace: str) -> bool:
    """Whether the operator may, by the API server's own judgement."""
    resource, _, subresource = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "subresource": subresource}
    spec = {
        "user": f"system:serviceaccount:{NAMESPACE}:rl-rljob-operator",
        "resourceAttributes": {**attributes, "verb": verb, "namespace": namespace},
    }
    return bool(cluster.api.post(REVIEWS, {"spec": spec}).body["status"]["allowed"])


def test_the_api_server_takes_everything_in_a_dry_run_and_nothing_stays(cluster: Blank) -> None:
    cluster.api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    helm("install", RELEASE, CHART, *where(cluster), "--dry-run=server")
    assert cluster.api.get(CRD).code == cluster.api.get(OPERATOR).code == 404


def test_an_install_serves_jobs_and_tells_what_to_do_next(cluster: Blank) -> None:
    notes = install(cluster)
    wait_until_established(cluster.api)
    assert cluster.api.get(OPERATOR).body["spec"]["replicas"] == 2
    assert cluster.api.post(f"{JOBS}?fieldValidation=Strict&dryRun=All", job("a")).code == 201
    (example,) = re.findall(r"kubectl apply -f (\S+)", notes)
    assert load_job(ROOT / example).metadata.name == "addition"
    assert f"kubectl -n {NAMESPACE} rollout status deployment/rl-rljob-operator" in notes


def test_the_operator_may_what_it_needs_and_not_read_secrets(cluster: Blank) -> None:
    install(cluster)
    needed = [(right, verb) for right in JOB_RIGHTS for verb in right.verbs]
    eventually(lambda: all(may(cluster, *each, "default") for each in needed), f"the operator may {needed}")
    secrets = Right("", "secrets", ())
    assert [verb for verb in ("get", "list", "delete") if may(cluster, secrets, verb, "default")] == []


def test_an_operator_of_one_namespace_may_nothing_in_another(cluster: Blank) -> None:
    install(cluster, "--set", "namespaces={default}")
    pods = Right("", "pods", ())
    eventually(lambda: may(cluster, pods, "create", "default"), "it may where it works")
    # Until it is noticed that the roles of an install before are gone, it may.
    eventually(lambda: not may(cluster, pods, "create", "kube-system"), "it may nothing elsewhere")


def test_an_upgrade_brings_the_new_crd_and_keeps_the_jobs(cluster: Blank, tmp_path: Path) -> None:
    install(cluster)
    wait_until_established(cluster.api)
    assert cluster.api.post(JOBS, job("kept")).code == 201
    helm("upgrade", RELEASE, newer_chart(tmp_path), *where(cluster))
    columns = wait_until_established(cluster.api)["spec"]["versions"][0]["additionalPrinterColumns"]
    assert "Newer" in [column["name"] for column in columns]
    assert cluster.api.get(f"{JOBS}/kept").code == 200
    cluster.api.delete(f"{JOBS}/kept")


def newer_chart(folder: Path) -> Path:
    """The chart as a later version may be: with one more printer column."""
    copy = folder / CHART.name
    shutil.copytree(CHART, copy)
    file = copy / "files" / "rljobs.yaml"
    first = "    additionalPrinterColumns:\n"
    assert file.read_text().count(first) == 1
    newer = first + "    - {name: Newer, type: string, jsonPath: .status.phase}\n"
    file.write_text(file.read_text().replace(first, newer))
    return copy


def test_an_uninstall_keeps_crd_and_jobs_and_a_new_install_takes_them_up(cluster: Blank) -> None:
    install(cluster)
    wait_until_established(cluster.api)
    assert cluster.api.post(JOBS, job("kept")).code == 201
    helm("uninstall", RELEASE, *where(cluster))
    assert cluster.api.get(OPERATOR).code == 404
    assert cluster.api.get(f"{JOBS}/kept").code == 200
    install(cluster)
    assert cluster.api.get(OPERATOR).code == 200
    cluster.api.delete(f"{JOBS}/kept")


def test_without_keep_an_uninstall_takes_the_crd_too(cluster: Blank) -> None:
    install(cluster, "--set", "crds.keep=false")
    helm("uninstall", RELEASE, *where(cluster))
    eventually(lambda: cluster.api.get(CRD).code == 404, "the CRD is gone")


def test_a_crd_that_was_there_before_is_taken_over_when_asked(cluster: Blank) -> None:
    cluster.api.post(CRDS, crd())
    with pytest.raises(Refused, match="cannot be imported into the current release"):
        install(cluster)
    install(cluster, "--take-ownership")
