"""Deadlines, time to live, another manager, a quota: what a cluster's clock and its administrators set."""

from __future__ import annotations

from rljob_operator import names
from rljob_operator.cluster.resources import JOBS, METADATA_KINDS

from .kubelet import Kubelet
from .places import BROKEN, Place, condition

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
    theirs = {"managedBy": "kueue.x-k8s.io/multikueue"}
    place.submit("theirs", **theirs)
    with place.without_rules():
        place.submit("theirs-too", **BROKEN, **theirs)
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    assert set(place.pods()) == {TRAINER, ROLLOUT}
    assert place.status("theirs") == place.status("theirs-too") == {}


def test_a_quota_is_told_as_it_is_now_while_it_is_in_the_way_and_no_longer(
    place: Place, kubelet: Kubelet
) -> None:
    place.quota(1)
    place.operator()
    place.submit()
    told = place.until_reason("PodsReady", "QuotaExceeded")
    assert "exceeded quota: few" in told["message"]
    assert condition(told, "Accepted")["status"] == "True"
    place.quota(2)
    place.wait_for_pods(TRAINER, ROLLOUT)
    place.until(lambda: place.condition("PodsReady")["reason"] != "QuotaExceeded")
    kubelet.run(TRAINER, ROLLOUT)
    place.edit({"rollout": {"replicas": 2}})
    place.until(lambda: refused(place) == {"demo-rollout-1-0"})
    place.edit({"rollout": {"replicas": 1}})
    assert place.until_reason("PodsReady", "AllReady")["message"] == ""
    place.edit({"rollout": {"replicas": 3}})
    place.until(lambda: refused(place))
    place.quota(3)
    place.until(lambda: len(place.pods()) == 3 and refused(place) == SERVERS - set(place.pods()))
    kubelet.end(TRAINER)
    over = place.wait_for_phase("Complete")
    assert (over["message"], condition(over, "PodsReady")["reason"]) == ("", "SomeNotReady")


SERVERS = {f"demo-rollout-{index}-0" for index in range(3)}


def refused(place: Place) -> set[str]:
    """The server that the status says is refused for want of quota."""
    status = place.status()
    if condition(status, "PodsReady").get("reason") != "QuotaExceeded":
        return set()
    return {name for name in SERVERS if f"refuses Pod {name}: " in status["message"]}


def test_a_refused_edit_is_told_by_whoever_leads_and_tried_again(place: Place) -> None:
    """Nothing starts because of it, so that nothing else would ask for it again."""
    place.operator()
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    with place.broken_webhook("persistentvolumeclaims", "UPDATE"):
        place.edit({"checkpoint": {"storage": {"retentionPolicy": {"whenDeleted": "Delete"}}}})
        told = place.until_reason("Accepted", "Refused")
        assert "The API server refuses PersistentVolumeClaim" in told["message"]
        place.operators[-1].stop()
        later = place.operator()
        place.until(lambda: later.says("the API server refused the PersistentVolumeClaim"))
        since = condition(told, "Accepted")["lastTransitionTime"]
        assert place.condition("Accepted")["lastTransitionTime"] == since
    place.until_reason("Accepted", "Valid")
    claim = METADATA_KINDS["PersistentVolumeClaim"].path(place.namespace, names.claim("demo"))
    assert place.api.get(claim).body["metadata"]["ownerReferences"][0]["name"] == "demo"
    place.edit({"checkpoint": {"storage": {"retentionPolicy": {"whenDeleted": "Retain"}}}})
    place.until(lambda: "ownerReferences" not in place.api.get(claim).body["metadata"])
