"""A real Prometheus that scrapes what our processes export has an answer to every query of the dashboards.

It finds what a list of names does not: labels that do not join, a counter that is asked for as a gauge.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from kube.api import Manifest
from kube.fixtures import skipped_if_unavailable
from kube.pods import eventually
from rljob_chart.operator_dashboard import OPERATOR
from rljob_chart.training_dashboard import TRAINING

from . import exporters
from .prometheus import Prometheus, scraping
from .queries import LEARNED

JOB = {"namespace": "team", "rljob": "math"}


@contextmanager
def served(registry: CollectorRegistry) -> Iterator[str]:
    """The address at which a registry is served."""
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes an operator and a job, under the labels that the chart's monitors give them."""
    with ExitStack() as stack:
        operator = stack.enter_context(served(exporters.operator()))
        trainer = stack.enter_context(served(exporters.trainer(LEARNED)))
        vllm = stack.enter_context(served(exporters.vllm_stand_in()))
        configs = [
            static(operator, {"namespace": "rljob-system", "pod": "operator-1"}),
            static(operator, {"namespace": "rljob-system", "pod": "operator-2"}),
            static(trainer, {**JOB, "pod": "math-trainer-0-1", "role": "trainer"}),
            static(vllm, {**JOB, "pod": "math-rollout-0-0", "role": "rollout"}),
        ]
        stack.enter_context(skipped_if_unavailable())
        yield stack.enter_context(scraping(configs, tmp_path_factory.mktemp("prometheus")))


def static(address: str, labels: dict[str, str]) -> Manifest:
    """Scrapes one address, and gives its series these labels."""
    return {"job_name": labels["pod"], "static_configs": [{"targets": [address], "labels": labels}]}


@pytest.mark.parametrize("query", [*OPERATOR.queries, *TRAINING.queries])
def test_a_query_returns_data(query: str, prometheus: Prometheus) -> None:
    asked = query.replace("$__rate_interval", "10s").replace("$namespace", "team").replace("$rljob", "math")
    eventually(lambda: bool(prometheus.values(asked)), f"{asked} returns data")


@pytest.mark.parametrize("variable", TRAINING.variables)
def test_a_choice_lists_what_there_is(variable: str, prometheus: Prometheus) -> None:
    eventually(lambda: bool(prometheus.labels("rljob_step", variable)), "steps are scraped")
    assert prometheus.labels("rljob_step", variable) == {JOB[variable]}


def test_a_query_of_what_nobody_exports_returns_none(prometheus: Prometheus) -> None:
    assert prometheus.values("rljob_stepp") == []
