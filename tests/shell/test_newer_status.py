"""A status that a newer operator wrote, as after `helm rollback`: an older one reads what it knows, and goes on."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from builders import manifest
from kube.api import Manifest
from rljob_api.known import with_unknown
from rljob_api.progress import Ending
from rljob_operator.cluster.resources import JOBS
from rljob_operator.jobs import Jobs, Stored

from .kubelet import Kubelet
from .places import Place, condition

ROLLOUT = "demo-rollout-0-0"
NEW = {"type": "Evaluated", "status": "True", "reason": "New"}
WORDS: Manifest = {
    "phase": "Evaluating",
    "conditions": [NEW, {"type": "Accepted", "status": "True", "reason": "Valid"}],
    "attempt": {"number": 3, "exactness": "AlmostExact"},
    "goodput": {"account": {"until": "2026-01-01T00:00:00Z", "doing": "evaluating"}},
}


def stored(status: Manifest, **spec: Any) -> Stored:
    jobs, job = Jobs(lambda _: None), manifest(**spec)
    metadata = {**job["metadata"], "namespace": "here", "resourceVersion": "1"}
    jobs.put({**job, "metadata": metadata, "status": status})
    ((_, one),) = jobs.items()
    return one


def test_a_word_that_is_new_counts_as_not_told() -> None:
    job = stored(WORDS).parse()
    assert job.status is not None
    assert [one.type for one in job.status.conditions] == ["Accepted"]
    assert (job.attempt_number, job.attempt and job.attempt.exactness) == (3, None)
    assert job.status.goodput is not None


def test_a_mistake_in_the_spec_is_the_only_one_that_is_told() -> None:
    with pytest.raises(ValidationError, match=r"1 validation error for RLJob\nspec\.trainer\.numNodes"):
        stored(WORDS, trainer={"numNodes": "two"}).parse()


def test_an_attempt_that_cannot_be_read_stays_as_it_is_and_none_begins() -> None:
    """As somebody left it who edited the status."""
    unreadable = stored({"attempt": {"token": "t"}})
    with pytest.raises(ValidationError, match=r"status\.attempt\.number"):
        unreadable.parse()
    written = with_unknown({"conditions": []}, unreadable.manifest["status"])
    assert written == {"attempt": {"token": "t"}, "conditions": []}


def test_after_a_rollback_the_job_is_looked_after_to_its_end(place: Place, kubelet: Kubelet) -> None:
    """On the API server with the older CRD, which refuses new words, but for those that stand there already."""
    newer = place.operator()
    place.submit(failurePolicy={"backoffSeconds": {"initial": 0, "max": 0}})
    place.wait_for_pods("demo-trainer-0-1", ROLLOUT)
    kubelet.run("demo-trainer-0-1", ROLLOUT)
    told = place.until_status(lambda status: status.get("trainer", {}).get("ready") == "1/1")
    newer.stop()
    with place.any_status():
        words = {
            "phase": "Evaluating",
            "conditions": [NEW, *told["conditions"]],
            "attempt": {"exactness": "AlmostExact"},
        }
        answer = place.api.merge(JOBS.path(place.namespace, "demo", "status"), {"status": words})
        assert answer.code == 200, answer.message
    place.operator()
    kubelet.end("demo-trainer-0-1", Ending.FAILED, 1)
    place.until(lambda: "demo-trainer-0-2" in place.pods())
    kubelet.run("demo-trainer-0-2")
    kubelet.end("demo-trainer-0-2")
    assert condition(place.wait_for_phase("Complete"), "Evaluated") == NEW
