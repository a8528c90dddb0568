"""A pod that has a node and does not start says why in Events alone: those are read, and become a condition."""

from __future__ import annotations

import asyncio

import pytest

from kube.api import Manifest
from rljob_operator.cluster.event_reading import cause
from rljob_operator.cluster.resources import EVENTS

from .kubelet import Kubelet
from .places import Place, condition
from .rooms import Room

TRAINER, ROLLOUT = "demo-trainer-0-1", "demo-rollout-0-0"
NO_SECRET = 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found'
STARTS = ("SomeNotReady", "SlowStart")
"""Reasons of a pod that starts; the second comes after half a minute, on a machine that stood still."""
NO_RUN = 'MountVolume.SetUp failed for volume "run" : configmap "demo-run-1" not found'


def an_event(reason: str, note: str = "", at: int = 0, **times: object) -> Manifest:
    return {"reason": reason, "message": note, "lastTimestamp": f"2026-01-01T00:00:{at:02}Z", **times}


def why(*events: Manifest) -> tuple[str, str]:
    return cause(events, "demo-run-1")


def test_the_newest_event_that_tells_of_a_start_explains_the_wait() -> None:
    mount, sandbox = an_event("FailedMount", NO_SECRET, 3), an_event("FailedCreatePodSandBox", "no\nnet", 5)
    assert why(mount, an_event("Scheduled", at=4)) == ("FailedMount", NO_SECRET)
    assert why(mount, sandbox) == ("FailedCreatePodSandBox", "no net")
    assert why(mount, an_event("Pulling", at=4)) == ("", "")
    assert why() == ("", "")


def test_an_event_that_comes_again_and_again_is_as_new_as_its_last_time() -> None:
    again = {"series": {"count": 9, "lastObservedTime": "2026-01-01T00:00:09.000000Z"}}
    assert why(an_event("FailedMount", NO_SECRET, 3, **again), an_event("Pulling", at=4))[1] == NO_SECRET


def test_the_attempts_own_config_map_comes_after_its_pods_and_is_not_missing() -> None:
    assert why(an_event("FailedMount", NO_RUN)) == ("", "")
    assert why(an_event("FailedMount", NO_RUN.replace("run-1", "run-2")))[0] == "FailedMount"


def kubelet_says(namespace: str, pod: Manifest, reason: str, note: str, at: int) -> tuple[str, Manifest]:
    """As kubelets write them."""
    name = pod["metadata"]["name"]
    event = {
        "metadata": {"name": f"{name}.{reason}", "namespace": namespace},
        "involvedObject": {
            "kind": "Pod",
            "name": name,
            "namespace": namespace,
            "uid": pod["metadata"]["uid"],
        },
        "type": "Warning",
        "reason": reason,
        "message": note,
        "lastTimestamp": f"2026-01-01T00:00:{at:02}Z",
        "source": {"component": "kubelet"},
    }
    return f"/api/v1/namespaces/{namespace}/events", event


def test_a_missing_secret_is_a_condition_and_no_more_once_the_pod_starts(
    place: Place, kubelet: Kubelet
) -> None:
    place.operator()
    place.submit()
    place.wait_for_pods(TRAINER, ROLLOUT)
    kubelet.place(TRAINER)
    place.made(*kubelet_says(place.namespace, place.pods()[TRAINER], "FailedMount", NO_SECRET, 1))
    told = place.until_reason("PodsReady", "SecretMissing")
    assert f"{TRAINER} waits: {NO_SECRET}. Create it" in told["message"]
    assert condition(told, "Accepted")["status"] == "False"
    place.made(*kubelet_says(place.namespace, place.pods()[TRAINER], "Pulling", "Pulling image", 2))
    told = place.until_status(lambda status: condition(status, "PodsReady")["reason"] in STARTS)
    assert condition(told, "Accepted")["status"] == "True"


def test_events_of_one_object_are_listed_by_its_uid(room: Room) -> None:
    for uid in ("one", "other"):
        body = {
            "metadata": {"name": uid, "namespace": room.namespace},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": room.namespace, "uid": uid},
            "type": "Warning",
            "reason": "FailedMount",
            "action": "Mount",
            "message": "no",
            "eventTime": "2026-01-01T00:00:01.000000Z",
            "reportingComponent": "test",
            "reportingInstance": "test",
        }
        made = room.api.post(EVENTS.path(room.namespace), body)
        assert made.code == 201, made.message

    async def listed() -> list[str]:
        async with room.client() as client:
            path, params = EVENTS.path(room.namespace), {"fieldSelector": "involvedObject.uid=one"}
            found = await client.send("GET", path, params=params)
        return [one["metadata"]["name"] for one in found["items"]]

    assert asyncio.run(listed()) == ["one"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ({"runtimeClassName": "nowhere"}, "RuntimeClassMissing"),
        ({"priorityClassName": "nowhere"}, "PriorityClassMissing"),
        ({"serviceAccountName": "nobody"}, "ServiceAccountMissing"),
    ],
)
def test_what_the_api_server_misses_is_a_condition_at_once(
    place: Place, template: Manifest, reason: str
) -> None:
    place.operator()
    place.submit(trainer={"template": {"spec": template}})
    told = place.until_reason("Accepted", reason)
    assert next(iter(template.values())) in told["message"]
