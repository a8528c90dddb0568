"""All PromQL of the chart: the dashboards' and the alerts'."""

from __future__ import annotations

import re

from ruamel.yaml import YAML

from kube.api import Manifest
from rljob_chart.operator_dashboard import OPERATOR
from rljob_chart.training_dashboard import TRAINING

from .chart import CHART

ALERTS = CHART / "files" / "alerts.yaml"
METRIC = re.compile(r"\b(?:rljob|process)_[a-z0-9_]+")
OF_VLLM = re.compile(r'__name__=~"vllm\[:_\](\w+)"')
STRING = re.compile(r'"[^"]*"')


def rules() -> list[Manifest]:
    """The alerts."""
    return [rule for group in YAML(typ="safe").load(ALERTS)["groups"] for rule in group["rules"]]


QUERIES = [*OPERATOR.queries, *TRAINING.queries, *(rule["expr"] for rule in rules())]
LEARNED = {name for query in QUERIES for name in re.findall(r'rljob_metric\{.*?name="(\w+)"', query)}
"""Metrics of training that are asked for."""


def asked(query: str) -> set[str]:
    """The series that a query names."""
    of_vllm = {f"vllm:{name}" for name in OF_VLLM.findall(query)}
    return of_vllm | set(METRIC.findall(STRING.sub("", query)))
