"""Alerts and dashboards ask for metrics that the operator, the trainers or vLLM export, in PromQL that parses."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
from ruamel.yaml import YAML

from rljob_api.progress import Progress, TrainPhase
from rljob_api.status import CheckpointFacts
from rljob_chart.operator_dashboard import OPERATOR
from rljob_chart.training_dashboard import TRAINING
from rljob_operator import metrics as operator_metrics
from rljob_trainer.metrics import families

from .chart import CHART, rendered, the
from .prometheus import Promtool

MONITORING = CHART / "ci" / "monitoring-values.yaml"
ALERTS = CHART / "files" / "alerts.yaml"
METRIC = re.compile(r"\b(?:rljob|vllm|process)[_:][a-z0-9_]+")
STRINGS = re.compile(r'"[^"]*"')


def rules() -> list[dict[str, Any]]:
    return [rule for group in YAML(typ="safe").load(ALERTS)["groups"] for rule in group["rules"]]


QUERIES = [*OPERATOR.queries, *TRAINING.queries, *(rule["expr"] for rule in rules())]


def exported() -> set[str]:
    """Names of all series that our processes have."""
    assert operator_metrics
    checkpoint = CheckpointFacts(
        step=2,
        time="2026-01-01T00:00:00Z",
        path="/s",
        bytes=1,
        verified=True,
        has_rng=True,
        has_optimizer=True,
        layout="x",
    )
    progress = Progress(
        attempt=1,
        step=2,
        total_steps=3,
        phase=TrainPhase.TRAIN,
        heartbeat=0.0,
        estimated_remaining_seconds=1.0,
        weight_version=1,
        checkpoint=checkpoint,
    )
    trainer = families(progress, {TrainPhase.TRAIN: 1.0}, now=0.0)
    return {*series(prometheus_client.REGISTRY.collect()), *series(trainer), *vllm_series()}


def series(collected: Any) -> Iterator[str]:
    """A counter without samples yet has its name all the same."""
    for family in collected:
        yield family.name
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        yield from (family.name + ending for ending in endings.get(family.type, []))


def vllm_series() -> Iterator[str]:
    """From its source: importing its metrics would want a whole engine."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "v1" / "metrics" / "loggers.py").read_text()
    for name in re.findall(r'"(vllm:[a-z_]+)"', source):
        yield from (name, f"{name}_total", f"{name}_bucket")


def test_every_query_asks_for_what_is_exported() -> None:
    known = exported()
    asked = {name for query in QUERIES for name in METRIC.findall(STRINGS.sub("", query))}
    assert len(asked) > 20
    assert asked - known == set()


def test_a_metric_that_nobody_exports_would_be_found() -> None:
    assert "rljob_operator_queue_dept" not in exported()
    assert METRIC.findall('sum(rljob_operator_queue_dept{a="rljob_b"})')[0] == "rljob_operator_queue_dept"


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
