"""Each alert goes off when what it warns of has lasted, and not before: tried by promtool on made-up series."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kube.api import Manifest

from .prometheus import Promtool
from .queries import ALERTS, rules

Series = dict[str, str]
"""Values, in promtool's notation and a minute apart, by series."""

JOB = '{namespace="a",rljob="b"}'
MISMATCH = 'rljob_metric{namespace="a",rljob="b",name="token_mult_prob_error"}'
REFUSALS = 'rljob_operator_api_refusals_total{reason="Quota"}'
ERRORS = 'rljob_operator_reconcile_errors_total{cause="Timeout"}'
WATCHES = 'rljob_operator_watch_restarts_total{resource="pods"}'


def leads(pod: str, release: str) -> str:
    """A series as the ServiceMonitor labels it: the release's namespace, and its Service as `job`."""
    return f'rljob_operator_leading{{namespace="{release}",job="rljob-operator",pod="{pod}"}}'


def looked_after(job: str, pod: str) -> str:
    return f'rljob_job_restarts{{job_namespace="{job}",rljob="b",pod="{pod}"}}'


A, B = leads("a", "one"), leads("b", "one")
OTHER_A, OTHER_B = leads("a", "two"), leads("b", "two")
WAITED = {bound: f'rljob_operator_queue_seconds_bucket{{le="{bound}"}}' for bound in ("1", "10", "+Inf")}

CASES: dict[str, tuple[Series, Series]] = {
    "RLJobOperatorAbsent": (
        {A: "0x120", OTHER_A: "1x120"},
        {A: "0x120", B: "1x120", OTHER_A: "1x60 0x60", OTHER_B: "0x60 1x60"},
    ),
    "RLJobOperatorSeveralLeaders": (
        {A: "1x120", B: "1x120", OTHER_A: "1x120"},
        {A: "1x120", B: "0x120", OTHER_A: "1x120"},
    ),
    "RLJobsWithSeveralOperators": (
        {looked_after("x", "one"): "0x120", looked_after("x", "two"): "1x120"},
        {looked_after("x", "one"): "0x120", looked_after("y", "two"): "1x120"},
    ),
    "RLJobReconcileFails": ({ERRORS: "0+1x120"}, {ERRORS: "0+1x30 30x90"}),
    "RLJobObjectsRefused": ({REFUSALS: "0+1x120"}, {REFUSALS: "0+1x30 30x90"}),
    "RLJobOperatorSlow": (
        {WAITED["1"]: "0x120", WAITED["10"]: "0+9x120", WAITED["+Inf"]: "0+9x120"},
        dict.fromkeys(WAITED.values(), "0+9x120"),
    ),
    "RLJobWatchFlaps": ({WATCHES: "0+3x120"}, {WATCHES: "0+1x120"}),
    "RLJobSilent": (
        {f"rljob_heartbeat_age_seconds{JOB}": "0+60x120"},
        {f"rljob_heartbeat_age_seconds{JOB}": "0+60x29 0+60x29 0+60x29 0+60x29"},
    ),
    "RLJobCheckpointOld": (
        {f"rljob_checkpoint_age_seconds{JOB}": "20000+60x120"},
        {f"rljob_checkpoint_age_seconds{JOB}": "0+60x120"},
    ),
    "RLJobMismatch": ({MISMATCH: "1.2x120"}, {MISMATCH: "1.2 1.01x119"}),
}  # fmt: skip  # a line each
"""What is bad and what is not, by alert."""


def test_every_alert_is_tried() -> None:
    assert set(CASES) == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_goes_off_when_it_should_and_only_then(
    alert: str, promtool: Promtool, tmp_path: Path
) -> None:
    bad, good = CASES[alert]
    tests = [trial(alert, bad, [{"labels": "{}", "value": 1}]), trial(alert, good, [])]
    (tmp_path / "test.yaml").write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": tests}))
    promtool("test", "rules", tmp_path / "test.yaml")


@pytest.mark.parametrize("series", [{A: "1x60 stale", OTHER_A: "1x120"}, {}])
def test_a_release_of_which_no_pod_is_left_is_missed(
    series: Series, promtool: Promtool, tmp_path: Path
) -> None:
    """Beside another that leads, or as the only one there ever was."""
    tests = [trial("RLJobOperatorAbsent", series, [{"labels": "{}", "value": 1}])]
    (tmp_path / "test.yaml").write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": tests}))
    promtool("test", "rules", tmp_path / "test.yaml")


def trial(alert: str, series: Series, expected: list[Manifest]) -> Manifest:
    """Whether the alert is going off after two hours."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": "2h",
                "exp_samples": expected,
            }
        ],
    }
