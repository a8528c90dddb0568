"""What benchmarks count: requests by the audit log, curves that are the same to the last step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.audit import Audit, gets, writes
from bench.learning import CURVES, Run, same_curves


def an_audit(folder: Path, *asked: tuple[str, str]) -> Audit:
    lines = [json.dumps({"verb": verb, "objectRef": {"resource": resource}}) for verb, resource in asked]
    (folder / "audit.log").write_text("\n".join(lines) + "\n")
    return Audit(folder)


def test_a_list_is_no_get_and_the_lease_does_not_count(tmp_path: Path) -> None:
    lease = [("get", "leases"), ("update", "leases")]
    idle = an_audit(tmp_path, *lease, ("list", "pods"), ("watch", "rljobs")).asked()
    assert (writes(idle), gets(idle)) == (0, 0)


def test_every_way_to_write_counts(tmp_path: Path) -> None:
    verbs = ("create", "update", "patch", "delete", "deletecollection", "get")
    busy = an_audit(tmp_path, *((verb, "pods") for verb in verbs)).asked()
    assert (writes(busy), gets(busy)) == (5, 1)


def test_who_goes_on_writing_is_never_silent(tmp_path: Path) -> None:
    audit = an_audit(tmp_path, ("create", "pods"))
    with pytest.raises(AssertionError, match="still writes"):
        audit.wait_for_silence(quiet_seconds=0, within_seconds=0)


def a_run_of(last: float) -> Run:
    curves = {name: {step: float(step) for step in range(60)} for name in CURVES}
    return Run(0.4, 0.8, 40.0, 60.0, {**curves, "val/accuracy": {0: 0.4, 60: last}}, {})


def test_curves_are_compared_to_the_last_step_with_the_accuracy() -> None:
    one = a_run_of(0.8)
    assert same_curves(one, a_run_of(0.8)).met
    assert not same_curves(one, a_run_of(0.81)).met
    shorter = {**one.curves, "loss": dict(list(one.curves["loss"].items())[:-1])}
    assert not same_curves(one, replace(one, curves=shorter)).met
