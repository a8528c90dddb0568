"""Alerts and dashboards ask for metrics that the operator, the trainers or vLLM export, in PromQL that parses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from rljob_chart.operator_dashboard import OPERATOR
from rljob_chart.training_dashboard import TRAINING

from . import exporters
from .chart import CHART, rendered, the
from .prometheus import Promtool
from .queries import ALERTS, LEARNED, QUERIES, asked, rules

MONITORING = CHART / "ci" / "monitoring-values.yaml"


def exported() -> set[str]:
    """Names of all series that our processes have."""
    ours = [exporters.operator(), exporters.trainer([])]
    return {name for registry in ours for name in exporters.series(registry)} | set(exporters.vllm_series())


def test_every_query_asks_for_what_is_exported() -> None:
    names = {name for query in QUERIES for name in asked(query)}
    assert len(names) > 20
    assert names - exported() == set()


def test_a_metric_that_nobody_exports_would_be_found() -> None:
    assert asked('sum(rljob_operator_queue_dept{a="rljob_b"})') - exported() == {"rljob_operator_queue_dept"}


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_a_metric_of_training_that_is_asked_for_is_one_that_a_trainer_tells(name: str) -> None:
    sources = exporters.package("rljob_trainer").rglob("*.py")
    assert any(f'"{name}"' in source.read_text() or f":{name}" in source.read_text() for source in sources)


def test_promtool_takes_the_alerts(promtool: Promtool) -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", "--lint-fatal", ALERTS)


def test_promtool_takes_the_queries_of_the_dashboards(promtool: Promtool, tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "5m") for query in QUERIES]
    recorded = [{"record": f"query:{index}", "expr": query} for index, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "queries", "rules": recorded}]}))
    promtool("check", "rules", tmp_path / "rules.yaml")


def test_the_chart_ships_the_rules_and_the_dashboards_as_they_are() -> None:
    objects = rendered(MONITORING)
    assert the("PrometheusRule", objects)["spec"] == YAML(typ="safe").load(ALERTS)
    (shipped,) = [each for each in objects if each["metadata"]["name"].endswith("-dashboards")]
    assert {json.loads(text)["uid"] for text in shipped["data"].values()} == {OPERATOR.uid, TRAINING.uid}
