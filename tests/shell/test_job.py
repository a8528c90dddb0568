"""A job from its creation to its end, on a real API server; the test plays scheduler and kubelet."""

from __future__ import annotations

from kube.api import Manifest
from rljob_api.progress import Ending
from rljob_api.status import ConditionType
from rljob_operator.cluster.event_posts import NOTE_LIMIT
from rljob_operator.cluster.resources import EVENTS, JOBS, METADATA_KINDS

from .kubelet import Kubelet
from .places import BROKEN, Place, condition
from .proxy import Asked, Fate

TRAINER, ROLLOUT = "demo-trainer-0-1", "demo-rollout-0-0"
QUICK = {"backoffSeconds": {"initial": 0, "max": 0}}


def test_a_job_runs_to_its_end(place: Place, kubelet: Kubelet) -> None:
    operator = place.operator()
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    kubelet.run(TRAINER, ROLLOUT)
    ready = place.until_status(lambda status: status.get("trainer", {}).get("ready") == "1/1")
    assert ready["phase"] == "Starting"
    kubelet.end(TRAINER)
    place.wait_for_phase("Complete")
    place.until(lambda: kubelet.reap() == [ROLLOUT])
    place.until(lambda: ROLLOUT not in place.pods())
    place.edit({"ttlSecondsAfterFinished": 3600})
    edited = place.job()["metadata"]["generation"]
    told = place.until_status(lambda status: status["observedGeneration"] == edited)
    assert {one["observedGeneration"] for one in told["conditions"]} == {
        edited
    }  # else `kubectl wait` waits on
    assert condition(told, "Complete")["status"] == "True"
    assert operator.stop() == 0
    assert place.lease_holder() == ""


def test_an_attempt_stands_in_the_status_before_any_of_its_pods(place: Place) -> None:
    """A pod of an attempt that nobody knows of could be made twice under two numbers."""
    with place.proxied() as proxy:
        place.submit(trainer={"numNodes": 3})
        place.operator(proxy=proxy)
        place.wait_for_pods(ROLLOUT, *(f"demo-trainer-{node}-1" for node in range(3)))
        place.until(lambda: config_map(place))
    order = [one.path.rsplit("/", 1)[-1] for one in proxy.writes]
    assert order.index("status") < order.index("pods")
    assert order.index("configmaps") > max(at for at, what in enumerate(order) if what == "pods")


def test_a_failed_trainer_restarts_the_gang_and_leaves_the_rollout_alone(
    place: Place, kubelet: Kubelet
) -> None:
    place.operator()
    place.submit(failurePolicy=QUICK, trainer={"numNodes": 2})
    first, second = "demo-trainer-0-1", "demo-trainer-1-1"
    place.wait_for_pods(first, second, ROLLOUT)
    kubelet.run(first, second, ROLLOUT)
    rollout = place.pods()[ROLLOUT]["metadata"]["uid"]
    kubelet.end(second, Ending.FAILED, 1, message="out of memory")
    place.until(lambda: place.pods()[first]["metadata"].get("deletionGracePeriodSeconds") == 30)
    place.until(lambda: kubelet.reap() == [first])
    place.until(lambda: {"demo-trainer-0-2", "demo-trainer-1-2"} <= set(place.pods()))
    assert place.pods()[ROLLOUT]["metadata"]["uid"] == rollout
    status = place.status()
    assert (status["restarts"], status["attempt"]["number"]) == (1, 2)
    assert status["failures"][0]["message"] == "out of memory"


def test_last_words_of_a_pod_that_is_gone_already_are_heard(place: Place, kubelet: Kubelet) -> None:
    place.operator()
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    kubelet.run(TRAINER, ROLLOUT)
    place.wait_for_phase("Starting")
    operator = place.operators[-1]
    operator.freeze()
    kubelet.end(TRAINER, Ending.MISTAKE, 2, message="no such model")
    kubelet.remove(TRAINER)
    operator.thaw()
    assert "no such model" in place.wait_for_phase("Failed")["message"]


def test_suspend_stops_the_pods_and_resume_begins_another_attempt(place: Place, kubelet: Kubelet) -> None:
    place.operator()
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    kubelet.run(TRAINER, ROLLOUT)
    place.edit({"suspend": True})
    place.wait_for_phase("Suspending")
    kubelet.reap_all(TRAINER, ROLLOUT)
    place.wait_for_phase("Suspended")
    place.edit({"suspend": False})
    place.until(lambda: "demo-trainer-0-2" in place.pods())
    assert place.status()["attempt"]["reason"] == "Resumed"


def test_a_deleted_job_is_left_alone(place: Place, kubelet: Kubelet) -> None:
    """Its children are the garbage collector's: nothing is made anew for a job that is gone."""
    with place.proxied() as proxy:
        place.operator(proxy=proxy)
        place.submit()
        place.wait_for_pods(TRAINER, ROLLOUT)
        place.submit("other")
        assert place.api.delete(JOBS.path(place.namespace, "demo")).code == 200
        place.until(lambda: "other-trainer-0-1" in place.pods())
        for name in (TRAINER, ROLLOUT):
            kubelet.remove(name)
        before = len(proxy.writes)
        kubelet.run("other-trainer-0-1")
        place.until_status(lambda status: status["trainer"].get("readyReplicas") == 1, "other")
    assert [one for one in proxy.writes[before:] if one.path.endswith("/pods")] == []
    assert set(place.pods()) == {"other-trainer-0-1", "other-rollout-0-0"}


def test_a_refusal_is_told_and_tried_again(place: Place) -> None:
    """Without the account that pods need, none can be created, nor while the cluster's own webhook is down."""
    account = f"/api/v1/namespaces/{place.namespace}/serviceaccounts/default"
    place.api.delete(account)
    with place.broken_webhook("pods", "CREATE"):
        place.operator()
        place.submit()
        place.until_reason("Accepted", "ServiceAccountMissing")
        place.made(account.rsplit("/", 1)[0], {"metadata": {"name": "default"}})
        told = place.until_reason("Accepted", "Refused")
        assert "failed calling webhook" in told["message"]
    place.wait_for_pods(TRAINER, ROLLOUT)
    place.until_reason("Accepted", "Valid")


def test_what_belongs_to_somebody_else_is_not_taken_over(place: Place) -> None:
    services = f"/api/v1/namespaces/{place.namespace}/services"
    theirs = {"metadata": {"name": "demo"}, "spec": {"clusterIP": "None", "selector": {"app": "payments"}}}
    place.made(services, theirs)
    place.operator()
    place.submit()
    told = place.until_reason("Accepted", "NameTaken")
    assert "Service demo" in told["message"]
    assert place.api.get(f"{services}/demo").body["spec"]["selector"] == {"app": "payments"}
    assert place.pods() == {}
    place.api.delete(f"{services}/demo")
    place.wait_for_pods(TRAINER, ROLLOUT)


def test_a_broken_job_says_so_and_stops_no_other(place: Place) -> None:
    """The API server keeps what it cannot know to be wrong; here a rule of ours is taken out of the CRD."""
    place.operator()
    with place.without_rules():
        place.submit("broken", **BROKEN)
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    accepted = place.until(lambda: place.condition("Accepted", "broken"))
    assert (accepted["status"], accepted["reason"]) == ("False", "Invalid")
    assert "tensor" in accepted["message"]


def test_a_running_job_that_is_edited_into_a_broken_one_says_so_everywhere(place: Place) -> None:
    """`kubectl wait` passes over conditions that are older than the spec; and a person looks at Events and the log."""
    operator = place.operator()
    uid = place.submit()["metadata"]["uid"]
    place.wait_for_pods(TRAINER, ROLLOUT)
    place.until_status(lambda status: len(status.get("conditions", [])) > 1)
    with place.without_rules():
        place.edit(BROKEN)
        refused = place.until_status(lambda status: condition(status, "Accepted")["status"] == "False")
        seen = {one["type"]: one["observedGeneration"] for one in refused["conditions"]}
        place.until(lambda: "Invalid" in reasons(place))
        place.edit({"parallelism": {"tensor": 1}})
        place.until(lambda: place.condition("Accepted")["status"] == "True")
    assert set(seen) == set(ConditionType)
    assert set(seen.values()) == {2}
    operator.stop()
    told = next(line for line in operator.lines() if "is not accepted" in line["message"])
    assert (told["job"], told["uid"], told["attempt"]) == ("demo", uid, 1)


def test_nothing_is_written_when_nothing_changed(place: Place, kubelet: Kubelet) -> None:
    with place.proxied() as proxy:
        place.operator(proxy=proxy)
        place.submit()
        place.wait_for_pods(TRAINER, ROLLOUT)
        kubelet.run(TRAINER, ROLLOUT)
        place.until_status(all_ready)
        place.operators[-1].stop()
        before = len(proxy.writes)
        place.operator(proxy=proxy)
        place.submit("other")
        place.until(lambda: "other-trainer-0-1" in place.pods())
        place.edit({"logging": {"tensorboard": False}}, "other")  # the operator has seen all there is by then
        place.until_status(lambda status: status.get("observedGeneration") == 2, "other")
    about_demo = [one for one in proxy.writes[before:] if "demo" in one.path]
    assert about_demo == []


def all_ready(status: Manifest) -> bool:
    return bool(status.get("trainer", {}).get("ready") == status.get("rollout", {}).get("ready") == "1/1")


def config_map(place: Place) -> bool:
    return place.api.get(METADATA_KINDS["ConfigMap"].path(place.namespace, "demo-run-1")).code == 200


def test_events_tell_what_happened_once_whatever_becomes_of_the_first_posts(
    place: Place, kubelet: Kubelet
) -> None:
    """And whatever becomes of a pass once its status is written."""
    posts, deletions = iter([Fate.FAILED, Fate.TOO_MANY, Fate.LOST]), iter([Fate.FAILED])
    long = "é" * 1024

    def fate(asked: Asked) -> Fate:
        if asked.method == "DELETE":
            return next(deletions, Fate.ANSWERED)
        return next(posts, Fate.ANSWERED) if posts_event(asked) else Fate.ANSWERED

    with place.proxied() as proxy:
        proxy.fate = fate
        place.operator(proxy=proxy)
        place.submit(failurePolicy=QUICK)
        place.wait_for_pods(TRAINER, ROLLOUT)
        kubelet.run(TRAINER, ROLLOUT)
        place.until(lambda: "AllReady" in reasons(place))
        kubelet.end(ROLLOUT, Ending.FAILED, 1, message="out of memory")
        place.until(lambda: "RolloutReplaced" in reasons(place))
        kubelet.end(TRAINER, Ending.FAILED, 1, message=long)
        place.until(lambda: reasons(place).count("AttemptStarted") == reasons(place).count("PodFailed") == 2)
    failures = [event for event in events(place) if event["reason"] == "PodFailed"]
    server, told = sorted(failures, key=lambda event: event["message"])
    assert server["message"] == "rollout 0 failed in attempt 1, exit code 1: out of memory"
    assert (told["type"], told["involvedObject"]["name"]) == ("Warning", "demo")
    start = "trainer 0 failed in attempt 1, exit code 1: "
    assert told["message"] == f"{start}{long}"[: len(start) + (NOTE_LIMIT - len(start)) // 2]


def posts_event(asked: Asked) -> bool:
    return asked.method == "POST" and asked.path.endswith("/events")


def events(place: Place) -> list[Manifest]:
    return list(place.api.get(EVENTS.path(place.namespace)).body["items"])


def reasons(place: Place) -> list[str]:
    return [event["reason"] for event in events(place)]
