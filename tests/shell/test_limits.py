"""Deadlines, time to live, another manager, a quota: what a cluster's clock and its administrators set."""

from __future__ import annotations

from rljob_operator.cluster.resources import JOBS
from waiting import until

from .kubelet import Kubelet
from .places import Place

TRAINER, ROLLOUT = "demo-trainer-0-1", "demo-rollout-0-0"


def reason(place: Place, kind: str) -> str:
    return str(place.condition(kind).get("reason", ""))


def test_a_job_past_its_deadline_fails_and_is_deleted_after_its_time_to_live(
    place: Place, kubelet: Kubelet
) -> None:
    place.operator()
    place.submit(ttlSecondsAfterFinished=2)
    place.wait_for_pods(TRAINER, ROLLOUT)
    kubelet.run(TRAINER, ROLLOUT)
    place.edit({"activeDeadlineSeconds": 1})
    until(lambda: place.condition("FailureTarget").get("status") == "True", place.told)
    assert reason(place, "FailureTarget") == "DeadlineExceeded"
    assert place.condition("Failed")["status"] == "False"
    kubelet.remove(TRAINER)
    until(lambda: place.api.get(JOBS.path(place.namespace, "demo")).code == 404, place.told)


def test_a_job_of_another_manager_is_left_alone(place: Place) -> None:
    place.operator()
    place.submit("theirs", managedBy="kueue.x-k8s.io/multikueue")
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    assert set(place.pods()) == {TRAINER, ROLLOUT}
    assert place.status("theirs") == {}


def test_a_quota_is_told_and_pods_come_when_it_is_raised(place: Place) -> None:
    quotas = f"/api/v1/namespaces/{place.namespace}/resourcequotas"
    place.made(quotas, {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "1"}}})
    allow(place, f"{quotas}/small", "1")
    place.operator()
    place.submit()
    until(lambda: reason(place, "PodsReady") == "QuotaExceeded", place.told)
    assert "exceeded quota: small" in place.status()["message"]
    assert place.condition("Accepted")["status"] == "True"
    allow(place, f"{quotas}/small", "9")
    place.wait_for_pods(TRAINER, ROLLOUT)
    until(lambda: reason(place, "PodsReady") != "QuotaExceeded", place.told)


def allow(place: Place, quota: str, pods: str) -> None:
    """What the quota's controller would write."""
    used = str(len(place.pods()))
    answer = place.api.merge(f"{quota}/status", {"status": {"hard": {"pods": pods}, "used": {"pods": used}}})
    assert answer.code == 200, answer.message
