"""What the operator builds on in an API server, asked of the real one and of the one in memory alike."""

from __future__ import annotations

from builders import manifest
from kube.api import Api, Manifest
from rljob_operator.cluster.client import APPLY
from rljob_operator.cluster.resources import JOBS, LEASES, METADATA_KINDS, PODS

from .rooms import Room, said, version

MAPS, SERVICES = METADATA_KINDS["ConfigMap"], METADATA_KINDS["Service"]


def test_a_name_is_given_once(room: Room) -> None:
    room.pod()
    assert said(room.asked_for_a_pod()) == (409, "AlreadyExists")


def test_who_may_create_can_ask_whether_a_name_is_taken(room: Room) -> None:
    """The only way to hear of a Secret that one may not read."""
    assert room.asked_for_a_pod("?dryRun=All").code == 201
    assert room.api.get(PODS.path(room.namespace, "p")).code == 404
    room.pod()
    assert said(room.asked_for_a_pod("?dryRun=All")) == (409, "AlreadyExists")


def test_a_new_object_has_an_identity_and_a_version(room: Room) -> None:
    one, other = room.pod("one", placed=False), room.pod("other", placed=False)
    assert one["metadata"]["uid"] != other["metadata"]["uid"]
    assert version(one) < version(other)
    assert one["status"]["phase"] == "Pending"


def test_what_is_not_there_is_not_found(room: Room) -> None:
    path = PODS.path(room.namespace, "nobody")
    assert said(room.api.get(path)) == said(room.delete(path)) == (404, "NotFound")


def test_a_quota_forbids_a_pod_and_says_so_and_nothing_else(room: Room) -> None:
    room.forbid_pods()
    refused = room.asked_for_a_pod()
    assert said(refused) == (403, "Forbidden")
    assert 'pods "p" is forbidden: exceeded quota: few' in refused.message
    assert room.job()["metadata"]["name"] == "j"


def test_a_delete_of_a_placed_pod_is_a_request(room: Room) -> None:
    pod = room.pod()
    path = PODS.path(room.namespace, "p")
    asked = room.delete(path, preconditions={"uid": pod["metadata"]["uid"]})
    assert asked.code == 200
    assert version(asked.body) > version(pod)
    assert "deletionTimestamp" in room.api.get(path).body["metadata"]
    assert room.delete(path).code == 200
    assert room.delete(path, gracePeriodSeconds=0).code == 200
    assert room.api.get(path).code == 404


def test_a_delete_may_shorten_the_grace_period_of_a_pod(room: Room) -> None:
    room.pod()
    path = PODS.path(room.namespace, "p")
    assert room.delete(path, gracePeriodSeconds=3).code == 200
    assert room.api.get(path).body["metadata"]["deletionGracePeriodSeconds"] == 3


def test_a_pod_without_a_node_goes_at_once(room: Room) -> None:
    room.pod(placed=False)
    assert room.delete(PODS.path(room.namespace, "p")).code == 200
    assert room.api.get(PODS.path(room.namespace, "p")).code == 404


def test_a_pod_that_ended_goes_at_once(room: Room) -> None:
    room.pod()
    assert (
        room.api.merge(PODS.path(room.namespace, "p", "status"), {"status": {"phase": "Failed"}}).code == 200
    )
    assert room.delete(PODS.path(room.namespace, "p")).code == 200
    assert room.api.get(PODS.path(room.namespace, "p")).code == 404


def test_a_delete_of_somebody_else_is_refused(room: Room) -> None:
    room.pod()
    refusal = room.delete(PODS.path(room.namespace, "p"), preconditions={"uid": "another"})
    assert said(refusal) == (409, "Conflict")
    assert room.api.get(PODS.path(room.namespace, "p")).code == 200


def test_a_status_is_written_over_the_version_it_was_made_for_alone(room: Room) -> None:
    job = room.job()
    path = JOBS.path(room.namespace, "j", "status")
    written = room.api.put(path, {**job, "status": {"restarts": 1}})
    assert (written.code, written.body["status"]["restarts"]) == (200, 1)
    assert version(written.body) > version(job)
    assert said(room.api.put(path, {**job, "status": {"restarts": 2}})) == (409, "Conflict")


def test_the_same_status_again_changes_nothing(room: Room) -> None:
    path = JOBS.path(room.namespace, "j", "status")
    first = room.api.put(path, {**room.job(), "status": {"restarts": 1}}).body
    assert version(room.api.put(path, first).body) == version(first)


def test_a_status_leaves_the_spec_and_its_generation_alone(room: Room) -> None:
    job = room.job()
    changed = {**job, "spec": {**job["spec"], "suspend": True}, "status": {"restarts": 1}}
    written = room.api.put(JOBS.path(room.namespace, "j", "status"), changed).body
    assert not written["spec"].get("suspend")
    assert written["metadata"]["generation"] == job["metadata"]["generation"] == 1
    edited = room.api.merge(JOBS.path(room.namespace, "j"), {"spec": {"suspend": True}}).body
    assert edited["metadata"]["generation"] == 2
    assert edited["status"]["restarts"] == 1


def test_a_new_job_has_no_status(room: Room) -> None:
    body = manifest() | {"metadata": {"name": "j"}, "status": {"restarts": 7}}
    assert room.api.post(JOBS.path(room.namespace), body).body.get("status", {}) == {}


def test_apply_makes_and_then_changes_only_what_differs(room: Room) -> None:
    path = SERVICES.path(room.namespace, "s") + "?fieldManager=us&force=true"
    path = path if isinstance(room.api, Api) else path.partition("?")[0]
    body: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "annotations": {"digest": "1"}},
        "spec": {"clusterIP": "None", "selector": {"a": "b"}},
    }
    made = room.api.send("PATCH", path, body, content_type=APPLY)
    assert made.code == 201, made.message
    again = room.api.send("PATCH", path, body, content_type=APPLY)
    assert (again.code, version(again.body)) == (200, version(made.body))
    body["metadata"]["annotations"]["digest"] = "2"
    changed = room.api.send("PATCH", path, body, content_type=APPLY).body
    assert version(changed) > version(made.body)
    assert changed["metadata"]["annotations"]["digest"] == "2"


def test_a_lease_goes_to_one_of_two(room: Room) -> None:
    body: Manifest = {"metadata": {"name": "l"}, "spec": {"holderIdentity": ""}}
    lease = room.api.post(LEASES.path(room.namespace), body).body
    path = LEASES.path(room.namespace, "l")
    assert room.api.put(path, {**lease, "spec": {"holderIdentity": "a"}}).code == 200
    assert said(room.api.put(path, {**lease, "spec": {"holderIdentity": "b"}})) == (409, "Conflict")
    assert room.api.get(path).body["spec"]["holderIdentity"] == "a"


def test_a_list_has_a_version_of_its_own_and_versions_of_its_items(room: Room) -> None:
    pod = room.pod()
    found = room.api.get(PODS.path(room.namespace)).body
    assert [one["metadata"]["name"] for one in found["items"]] == ["p"]
    assert version(found) >= version(found["items"][0]) >= version(pod)
