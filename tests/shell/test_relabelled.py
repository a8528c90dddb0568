"""A pod that somebody takes out of its job by its label, as a ReplicaSet lets one go too: the job makes another."""

from __future__ import annotations

import pytest

from rljob_operator.cluster.resources import PODS
from rljob_operator.names import LABEL_NAME

from .kubelet import Kubelet
from .places import Place

TRAINER, ROLLOUT = "demo-trainer-0-1", "demo-rollout-0-0"


@pytest.mark.parametrize("label", ["other", None], ids=["changed", "removed"])
def test_a_pod_without_the_label_of_its_job_is_gone_from_it(
    place: Place, kubelet: Kubelet, label: str | None
) -> None:
    place.operator()
    place.submit(failurePolicy={"backoffSeconds": {"initial": 0, "max": 0}})
    place.wait_for_pods(TRAINER, ROLLOUT)
    kubelet.run(TRAINER, ROLLOUT)
    place.until_status(lambda status: status.get("trainer", {}).get("ready") == "1/1")
    taken = {"metadata": {"labels": {LABEL_NAME: label}}}
    assert place.api.merge(PODS.path(place.namespace, TRAINER), taken).code == 200
    place.wait_for_pods(TRAINER, ROLLOUT, "demo-trainer-0-2")
    told = place.until_status(lambda status: status["attempt"]["number"] == 2)
    assert told["attempt"]["reason"] == "PodsGone"
    assert "deletionTimestamp" not in place.pods()[TRAINER]["metadata"]
