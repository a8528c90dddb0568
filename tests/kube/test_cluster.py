"""The test cluster itself: what every other test takes for granted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kube.api import Api, Manifest
from kube.cluster import Cluster
from kube.pods import (
    NOBODY,
    PODS,
    busybox,
    create,
    delete,
    eventually,
    finished,
    is_in_phase,
    is_ready,
    is_unplaceable,
    wait_for,
)
from kube.processes import Failure, run
from kube.small_images import write_small_image
from kube.storage import STORAGE_CLASS

CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
SERVICES = "/api/v1/namespaces/default/services"
BEACON = "while true; do echo here > /tmp/index.html; httpd -p 8000 -h /tmp; sleep 1000; done"


@contextmanager
def running(api: Api, pod: Manifest) -> Iterator[Manifest]:
    name = create(api, pod)
    try:
        yield wait_for(api, name, is_in_phase("Running"))
    finally:
        delete(api, name)


def test_a_pod_runs_and_its_logs_can_be_read(cluster: Cluster) -> None:
    with running(cluster.api, busybox("talks", "echo hello; sleep 1000")):
        eventually(lambda: cluster.kubectl("logs", "talks") == "hello\n", "the pod said hello")


def test_a_pod_has_a_name(cluster: Cluster) -> None:
    """In a headless service, ready or not; as trainers find their leader."""
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"app": "named"}}
    assert cluster.api.post(SERVICES, {"metadata": {"name": "group"}, "spec": {**service}}).code == 201
    pod = busybox("named", BEACON, labels={"app": "named"}, hostname="first", subdomain="group")
    with running(cluster.api, pod):
        ask = "until wget -qO- first.group.default.svc.cluster.local:8000; do sleep 0.2; done > /dev/termination-log"
        assert finished(cluster.api, busybox("asks", ask))["message"] == "here\n"
    cluster.api.delete(f"{SERVICES}/group")


def test_an_evicted_pod_has_last_words(cluster: Cluster) -> None:
    on_term = "trap 'echo saved > /dev/termination-log; exit 3' TERM; touch /tmp/trapped"
    script = f"{on_term}; while true; do sleep 0.1; done"
    trapped = {"readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/trapped"]}, "periodSeconds": 1}}
    pod = busybox("leaves", script, container=trapped, terminationGracePeriodSeconds=30)
    name = create(cluster.api, pod)
    wait_for(cluster.api, name, is_ready)  # one that merely runs would not notice SIGTERM yet
    finalizer = {"metadata": {"finalizers": ["rljob.io/test"]}}  # else it may be gone before we look
    assert cluster.api.merge(f"{PODS}/{name}", finalizer).code == 200
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    assert cluster.api.post(f"{PODS}/{name}/eviction", eviction).code == 201
    ended = wait_for(cluster.api, name, is_in_phase("Failed"))["status"]["containerStatuses"][0]["state"]
    assert (ended["terminated"]["exitCode"], ended["terminated"]["message"]) == (3, "saved\n")
    cluster.api.merge(f"{PODS}/{name}", {"metadata": {"finalizers": None}})


def test_a_claim_gets_storage_of_its_size_that_any_user_may_write(cluster: Cluster) -> None:
    request = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    claim = {"metadata": {"name": "data"}, "spec": {**request, "storageClassName": STORAGE_CLASS}}
    assert cluster.api.post(CLAIMS, claim).code == 201
    too_much = "! head -c 2000000 /dev/zero > /data/more && rm /data/more"
    script = f"{too_much} && echo 17 > /data/step"
    assert finished(cluster.api, _with_data("writes", script))["exitCode"] == 0
    read = finished(cluster.api, _with_data("reads", "cat /data/step > /dev/termination-log"))
    assert read["message"] == "17\n"
    volumes = cluster.folder / "volumes"
    assert len(list(volumes.iterdir())) == 1
    cluster.api.delete(f"{CLAIMS}/data")
    eventually(lambda: not list(volumes.iterdir()), "the storage of a claim goes with it")


def _with_data(name: str, script: str) -> Manifest:
    return busybox(
        name,
        script,
        container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        securityContext=NOBODY,
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    )


def test_a_pod_that_wants_gpus_waits_until_the_node_has_them(cluster: Cluster) -> None:
    wanting = {"resources": {"limits": {"nvidia.com/gpu": 4}}}
    name = create(cluster.api, busybox("wants", "true", container=wanting))
    wait_for(cluster.api, name, is_unplaceable)
    cluster.give_gpus("node0", 8)
    wait_for(cluster.api, name, is_in_phase("Succeeded"))
    delete(cluster.api, name)
    cluster.give_gpus("node0", 0)


def test_an_imported_image_runs(cluster: Cluster, tmp_path: Path) -> None:
    archive = write_small_image(tmp_path, "localhost/other:2", ["/bin/sh", "-c", "exit 7"])
    cluster.import_image(archive)
    pod = busybox("other", "")
    container = {"name": "main", "image": "localhost/other:2", "imagePullPolicy": "Never"}
    assert finished(cluster.api, {**pod, "spec": {**pod["spec"], "containers": [container]}})["exitCode"] == 7


def test_pods_are_reached_from_inside_and_only_from_there(cluster: Cluster) -> None:
    ask = [
        "python3",
        "-c",
        "import urllib.request as r, sys; print(r.urlopen(sys.argv[1], timeout=2).status)",
    ]
    with running(cluster.api, busybox("beacon", BEACON)) as pod:
        url = f"http://{pod['status']['podIP']}:8000"
        eventually(lambda: _answers(cluster, *ask, url), "the pod answers inside")
        with pytest.raises(Failure):
            run(*ask, url)


def _answers(cluster: Cluster, *command: str) -> bool:
    try:
        return cluster.run(*command) == "200\n"
    except Failure:
        return False


def test_pods_of_two_nodes_reach_each_other(two_node_cluster: Cluster) -> None:
    api = two_node_cluster.api
    with running(api, busybox("there", BEACON, nodeName="node1")) as pod:
        ask = f"until wget -qO- {pod['status']['podIP']}:8000; do sleep 0.2; done > /dev/termination-log"
        assert finished(api, busybox("here", ask, nodeName="node0"))["message"] == "here\n"


def test_a_drained_node_is_empty(two_node_cluster: Cluster) -> None:
    create(two_node_cluster.api, busybox("stays", "sleep 1000", nodeName="node0"))
    create(two_node_cluster.api, busybox("goes", "sleep 1000", nodeName="node1"))
    two_node_cluster.kubectl("drain", "node1", "--force")
    listed = json.loads(two_node_cluster.kubectl("get", "pods", "--output=json"))["items"]
    assert [pod["spec"]["nodeName"] for pod in listed] == ["node0"]
    two_node_cluster.kubectl("uncordon", "node1")
    delete(two_node_cluster.api, "stays")


def test_a_node_that_is_cut_off_is_lost_and_comes_back(two_node_cluster: Cluster) -> None:
    def is_ready() -> str:
        path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return two_node_cluster.kubectl("get", "node", "node1", f"--output={path}")

    two_node_cluster.cut_off("node1")
    eventually(lambda: is_ready() == "Unknown", "the node is lost")
    two_node_cluster.reconnect("node1")
    eventually(lambda: is_ready() == "True", "the node is back")
