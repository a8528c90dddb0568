"""Operators that are killed, frozen or cut off: the job never notices."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kube.api import Manifest
from kube.processes import Command
from rljob_api.base import GROUP
from rljob_api.crd import PLURAL
from rljob_api.progress import Ending
from rljob_operator.cluster.resources import JOBS, PODS

from .kubelet import Kubelet
from .places import ACCOUNT, OPERATOR, RBAC, STRICTER, Operator, Place
from .proxy import WRITES, Asked, Fate, Proxy

TRAINERS = ("demo-trainer-0-1", "demo-trainer-1-1")
ROLLOUT, REPLACEMENT = "demo-rollout-0-0", "demo-rollout-0-1"
SPEC: Manifest = {"trainer": {"numNodes": 2}}
QUICK_LEASE = ("--lease-seconds", "3")
LONG_LEASE = ("--lease-seconds", "30")
"""Whoever waits for it must not get it because this machine stood still."""
UNFENCED = Path(__file__).with_name("unfenced.py")
LATE = {"version": "/status", "uid": f"/{TRAINERS[0]}"}
"""What keeps a write from doing harm when it comes late, and how its path ends."""


@pytest.mark.parametrize("last", ["status", "secrets", "pods", "configmaps"])
def test_an_operator_killed_after_a_write_is_followed_by_one_that_makes_nothing_twice(
    place: Place, last: str
) -> None:
    """It dies when the API server has done its write, and before it hears of that."""
    with place.proxied() as proxy:
        kill_after(proxy, place, last)
        first = place.operator(*QUICK_LEASE, proxy=proxy)
        place.submit(**SPEC)
        place.until(lambda: first.process.poll() is not None)
        before = {name: pod["metadata"]["uid"] for name, pod in place.pods().items()}
        place.operator(*QUICK_LEASE)
        place.wait_for_pods(*TRAINERS, ROLLOUT)
        place.until_status(lambda status: status.get("trainer", {}).get("replicas") == 2)
    after = {name: pod["metadata"]["uid"] for name, pod in place.pods().items()}
    assert before.items() <= after.items()
    assert place.status()["attempt"]["number"] == 1
    assert place.status()["restarts"] == 0


def all_ready(status: Manifest) -> bool:
    ready = [status.get(role, {}).get("ready") for role in ("trainer", "rollout")]
    return ready == ["2/2", "1/1"]


def kill_after(proxy: Proxy, place: Place, last: str) -> None:
    def after(asked: Asked) -> None:
        if asked.is_write and asked.path.endswith(f"/{last}"):
            proxy.after = lambda _: None
            place.operators[0].kill()

    proxy.after = after


def test_a_leader_that_slept_in_the_middle_of_a_pass_goes_no_further_and_steps_down(
    place: Place, kubelet: Kubelet
) -> None:
    assert stops_in_its_pass(place, kubelet, OPERATOR)
    place.edit({"suspend": False})
    place.until(lambda: "demo-trainer-1-2" in place.pods())
    assert place.status()["attempt"]["number"] == 2


@pytest.mark.parametrize("fence", LATE)
def test_what_a_leader_had_sent_before_it_slept_comes_in_vain(
    place: Place, kubelet: Kubelet, fence: str
) -> None:
    assert comes_in_vain(place, kubelet, OPERATOR, LATE[fence])


def test_without_the_guard_it_goes_further(place: Place, kubelet: Kubelet) -> None:
    assert not stops_in_its_pass(place, kubelet, [UNFENCED, "guard"])


@pytest.mark.parametrize("fence", LATE)
def test_without_its_fence_a_write_that_comes_late_does_harm(
    place: Place, kubelet: Kubelet, fence: str
) -> None:
    may_patch_status(place)
    assert not comes_in_vain(place, kubelet, [UNFENCED, fence], LATE[fence])


def stops_in_its_pass(place: Place, kubelet: Kubelet, program: Command) -> bool:
    """Whether a leader writes nothing when it wakes up in the belief that it leads, with a job to suspend, told of in
    the status, and pods to delete next.
    """
    with place.proxied() as proxy:
        sleeper = leader(place, kubelet, proxy, program)

        def after(asked: Asked) -> None:
            if asked.path.endswith("/status"):
                proxy.after = lambda _: None
                sleeper.freeze()
                proxy.cut_watches()

        proxy.after = after
        place.edit({"suspend": True})
        other = suspended_by_another(place, kubelet)
        before = len(proxy.writes)
        proxy.fate = slow_to_tell
        sleeper.thaw()
        place.until(lambda: sleeper.says("the lease is lost"))
        assert place.lease_holder() == other.name
        # An Event of what it did before it slept may still come: that is told late, and changes nothing.
        return [one for one in proxy.writes[before:] if "events" not in one.path] == []


def slow_to_tell(asked: Asked) -> Fate:
    """Whoever hears late of what others did has nothing but its guard to stop it."""
    return Fate.ANSWERED if asked.is_write else Fate.SLOW


def comes_in_vain(place: Place, kubelet: Kubelet, program: Command, path_end: str) -> bool:
    """Whether a write to there changes nothing when it is on its way until another leader has done its work, and a pod
    stands there under a name of before, as when a job is made anew.
    """
    with place.proxied() as proxy:
        sleeper = leader(place, kubelet, proxy, program)
        is_answered = threading.Event()

        def fate(asked: Asked) -> Fate:
            if not asked.is_write or not asked.path.endswith(path_end):
                return Fate.ANSWERED
            sleeper.freeze()
            return Fate.HELD

        def after(asked: Asked) -> None:
            if asked.path.endswith(path_end):
                is_answered.set()

        proxy.fate, proxy.after = fate, after
        place.edit({"suspend": True})
        suspended_by_another(place, kubelet).stop()
        namesake = {"metadata": {"name": TRAINERS[0]}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
        place.made(PODS.path(place.namespace), namesake)
        there = place.job(), place.pods()
        proxy.let_go.set()
        place.until(is_answered.is_set)
        return (place.job(), place.pods()) == there


def leader(place: Place, kubelet: Kubelet, proxy: Proxy, program: Command) -> Operator:
    """Of a job that runs, with nothing left to write."""
    first = place.operator(*QUICK_LEASE, proxy=proxy, program=program)
    place.submit(**SPEC)
    place.wait_for_pods(*TRAINERS, ROLLOUT)
    kubelet.run(*TRAINERS, ROLLOUT)
    place.until_status(all_ready)
    return first


def suspended_by_another(place: Place, kubelet: Kubelet) -> Operator:
    other = place.operator(*LONG_LEASE)
    place.until(lambda: place.lease_holder() == other.name)
    kubelet.reap_all(*TRAINERS, ROLLOUT)
    place.wait_for_phase("Suspended")
    return other


def may_patch_status(place: Place) -> None:
    """The operator's own rights keep it from a write without a version."""
    path = f"{RBAC}/namespaces/{place.namespace}/roles/{ACCOUNT}"
    role = place.api.get(path).body
    role["rules"].append({"apiGroups": [GROUP], "resources": [f"{PLURAL}/status"], "verbs": ["patch"]})
    assert place.api.put(path, role).code == 200


def test_a_status_that_is_out_of_date_is_not_written(place: Place) -> None:
    """What fences when the lease does not: the version that a status was made for."""
    place.operator()
    place.submit()
    place.wait_for_pods("demo-trainer-0-1", ROLLOUT)
    place.until_status(lambda status: status.get("attempt"))
    old = place.job()
    place.edit({"logging": {"tensorboard": False}})
    answer = place.api.put(JOBS.path(place.namespace, "demo", "status"), old)
    assert (answer.code, answer.body["reason"]) == (409, "Conflict")


@pytest.mark.parametrize("trouble", ["cut", "expired", "error"])
def test_what_happens_while_a_watch_is_broken_is_not_missed(
    place: Place, kubelet: Kubelet, trouble: str
) -> None:
    """Deletions above all: a list shows only what is there."""
    with place.proxied() as proxy:
        operator = place.operator(proxy=proxy)
        place.submit(**SPEC)
        place.wait_for_pods(*TRAINERS, ROLLOUT)
        kubelet.run(*TRAINERS, ROLLOUT)
        place.until_status(all_ready)
        proxy.refuse_watch = {"expired": status(410, "Expired"), "error": status(500, "InternalError")}.get(
            trouble
        )
        operator.freeze()
        proxy.cut_watches()  # before the deletion, which no open watch may tell
        kubelet.remove(ROLLOUT)
        operator.thaw()
        place.until(lambda: proxy.refuse_watch is None)
        place.until(lambda: REPLACEMENT in place.pods())
    assert place.status()["attempt"]["number"] == 1


def status(code: int, reason: str) -> Manifest:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}


def test_a_job_deleted_while_nobody_watched_is_forgotten(place: Place, kubelet: Kubelet) -> None:
    with place.proxied() as proxy:
        operator = place.operator(proxy=proxy)
        place.submit()
        place.wait_for_pods("demo-trainer-0-1", ROLLOUT)
        operator.freeze()
        place.api.delete(JOBS.path(place.namespace, "demo"))
        proxy.cut_watches()
        proxy.refuse_watch_of, proxy.refuse_watch = "/rljobs", status(410, "Expired")
        operator.thaw()
        place.until(lambda: proxy.refuse_watch is None)
        kubelet.remove("demo-trainer-0-1")
        place.submit("other")
        place.wait_for_pods(ROLLOUT, "other-trainer-0-1", "other-rollout-0-0")
    assert all(one.method in WRITES for one in proxy.writes)


def test_an_error_in_the_stream_of_jobs_kills_kopf_and_not_the_operator(place: Place) -> None:
    with place.proxied() as proxy:
        operator = place.operator(proxy=proxy)
        place.submit()
        place.wait_for_pods("demo-trainer-0-1", ROLLOUT)
        proxy.refuse_watch_of, proxy.refuse_watch = "/rljobs", status(500, "InternalError")
        proxy.cut_watches()
        place.until(lambda: operator.says("is started again"))
        place.submit("other")
        place.until(lambda: "other-trainer-0-1" in place.pods())
    assert operator.process.poll() is None


def test_an_upgrade_that_would_refuse_a_running_job_looks_after_it_to_its_end(
    place: Place, kubelet: Kubelet
) -> None:
    """A rule that came later says what is wrong, and begins no new job; it abandons none."""
    older = place.operator()
    place.submit(failurePolicy={"backoffSeconds": {"initial": 0, "max": 0}})
    place.wait_for_pods("demo-trainer-0-1", ROLLOUT)
    kubelet.run("demo-trainer-0-1", ROLLOUT)
    place.until_status(lambda status: status.get("trainer", {}).get("ready") == "1/1")
    older.stop()
    place.operator(program=STRICTER)
    told = place.until_reason("Accepted", "Invalid")
    assert told["message"] == "spec.model.source: name another model."
    place.submit("late")
    place.until_reason("Accepted", "Invalid", "late")
    kubelet.end("demo-trainer-0-1", Ending.FAILED, 1)
    place.until(lambda: "demo-trainer-0-2" in place.pods())
    kubelet.run("demo-trainer-0-2")
    kubelet.end("demo-trainer-0-2")
    place.wait_for_phase("Complete")
    assert [name for name in place.pods() if name.startswith("late")] == []
