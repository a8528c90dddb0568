"""Deadlines, time to live, another manager, a quota: what a cluster's clock and its administrators set."""

from __future__ import annotations

from rljob_operator.cluster.resources import JOBS

from .kubelet import Kubelet
from .places import Place, condition

TRAINER, ROLLOUT = "demo-trainer-0-1", "demo-rollout-0-0"


def test_a_job_past_its_deadline_fails_and_is_deleted_after_its_time_to_live(
    place: Place, kubelet: Kubelet
) -> None:
    place.operator()
    place.submit(ttlSecondsAfterFinished=2)
    place.wait_for_pods(TRAINER, ROLLOUT)
    kubelet.run(TRAINER, ROLLOUT)
    place.edit({"activeDeadlineSeconds": 1})
    told = place.until_status(lambda status: condition(status, "FailureTarget").get("status") == "True")
    assert condition(told, "FailureTarget")["reason"] == "DeadlineExceeded"
    assert condition(told, "Failed")["status"] == "False"
    kubelet.remove(TRAINER)
    place.until(lambda: place.api.get(JOBS.path(place.namespace, "demo")).code == 404)


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
    told = place.until_reason("PodsReady", "QuotaExceeded")
    assert "exceeded quota: small" in told["message"]
    assert condition(told, "Accepted")["status"] == "True"
    allow(place, f"{quotas}/small", "9")
    place.wait_for_pods(TRAINER, ROLLOUT)
    place.until(lambda: place.condition("PodsReady")["reason"] != "QuotaExceeded")


def allow(place: Place, quota: str, pods: str) -> None:
    """What the quota's controller would write."""
    used = str(len(place.pods()))
    answer = place.api.merge(f"{quota}/status", {"status": {"hard": {"pods": pods}, "used": {"pods": used}}})
    assert answer.code == 200, answer.message
