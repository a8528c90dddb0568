"""Monitors and rules, as the Prometheus Operator's CRDs take them on a real API server."""

from __future__ import annotations

import pytest

from kube.api import Api
from kube.fixtures import CRDS, skipped_if_unavailable
from kube.pods import eventually

from .chart import CHART, RELEASE, helm, of_kind, rendered
from .conftest import Blank
from .prometheus_operator import KINDS, crds

MONITORING = CHART / "ci" / "monitoring-values.yaml"
PLURALS = {
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
    "ServiceMonitor": "servicemonitors",
}
GROUP = "/apis/monitoring.coreos.com/v1"


@pytest.fixture(scope="module")
def api(blank: Blank) -> Api:
    with skipped_if_unavailable():
        for crd in crds():
            answer = blank.api.post(CRDS, crd)
            assert answer.code == 201, answer.message
    paths = [f"{GROUP}/{plural}" for plural in PLURALS.values()]  # each has a CRD of its own
    eventually(lambda: all(blank.api.get(path).code == 200 for path in paths), "monitors are served")
    return blank.api


@pytest.mark.parametrize("kind", PLURALS)
def test_an_object_for_the_prometheus_operator_has_only_fields_that_it_knows(api: Api, kind: str) -> None:
    for sent in of_kind(kind, rendered(MONITORING)):
        path = f"{GROUP}/namespaces/default/{PLURALS[kind]}?dryRun=All&fieldValidation=Strict"
        answer = api.post(path, {**sent, "metadata": {"name": "a"}})
        assert answer.code == 201, answer.message


def test_an_install_with_monitoring_succeeds_where_they_are_known(api: Api, blank: Blank) -> None:
    where = ["--kubeconfig", str(blank.kubeconfig), "--namespace", "default"]
    helm("install", RELEASE, CHART, *where, "--values", MONITORING)
    try:
        found = [len(api.get(f"{GROUP}/namespaces/default/{kind}").body["items"]) for kind in KINDS]
        assert found == [1, 1, 1]
    finally:
        helm("uninstall", RELEASE, *where)
        blank.api.delete(f"{CRDS}/rljobs.rljob.io")
        eventually(lambda: blank.api.get(f"{CRDS}/rljobs.rljob.io").code == 404, "the CRD is gone")
