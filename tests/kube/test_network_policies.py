"""The test-only enforcer of NetworkPolicies: what it lets through on real nodes, and what not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from kube.api import Manifest
from kube.cluster import Cluster
from kube.pods import busybox, create, delete, eventually, is_in_phase, wait_for
from kube.processes import Failure

POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"
SERVES = "echo served > /tmp/index.html; httpd -p 8000 -h /tmp; httpd -p 8001 -h /tmp; sleep 1000"
GUESTS = {"podSelector": {"matchLabels": {"app": "guest"}}}
ANYWHERE = {"ipBlock": {"cidr": "0.0.0.0/0"}}


@dataclass(frozen=True)
class Pods:
    """A server on node0, and who asks it: a guest and a stranger on each node."""

    cluster: Cluster
    addresses: dict[str, str]

    def is_served(self, client: str, port: int, by: str = "server") -> bool:
        ask = ["wget", "-qO-", f"http://{self.addresses[by]}:{port}"]
        try:
            return self.cluster.kubectl("exec", client, "--", *ask) == "served\n"
        except Failure:
            return False

    def is_refused(self, client: str, port: int) -> bool:
        return not self.is_served(client, port)

    def become(self, *, served: list[str], refused: list[str], port: int = 8000) -> None:
        for client in refused:
            eventually(partial(self.is_refused, client, port), f"{client} is refused at {port}")
        for client in served:
            eventually(partial(self.is_served, client, port), f"{client} is served at {port}")


CLIENTS = ["guest-0", "guest-1", "stranger-0", "stranger-1"]


@pytest.fixture(scope="module")
def pods(two_node_cluster: Cluster) -> Iterator[Pods]:
    api = two_node_cluster.api
    port = {"ports": [{"name": "web", "containerPort": 8000}]}
    create(api, busybox("server", SERVES, labels={"app": "server"}, container=port, nodeName="node0"))
    for client in CLIENTS:
        app, node = client.split("-")
        create(api, busybox(client, SERVES, labels={"app": app}, nodeName=f"node{node}"))
    running = {name: wait_for(api, name, is_in_phase("Running")) for name in ("server", *CLIENTS)}
    yield Pods(two_node_cluster, {name: pod["status"]["podIP"] for name, pod in running.items()})
    for name in ("server", *CLIENTS):
        delete(api, name)


@contextmanager
def policy(pods: Pods, app: str, **spec: object) -> Iterator[None]:
    body: Manifest = {
        "metadata": {"name": app},
        "spec": {"podSelector": {"matchLabels": {"app": app}}, **spec},
    }
    answer = pods.cluster.api.post(POLICIES, body)
    assert answer.code == 201, answer.message
    try:
        yield
    finally:
        pods.cluster.api.delete(f"{POLICIES}/{app}")


def test_without_a_policy_all_are_served(pods: Pods) -> None:
    pods.become(served=CLIENTS, refused=[])


def test_only_whom_a_policy_names_is_served_from_either_node(pods: Pods) -> None:
    with policy(pods, "server", ingress=[{"from": [GUESTS]}]):
        pods.become(served=["guest-0", "guest-1"], refused=["stranger-0", "stranger-1"])
    pods.become(served=CLIENTS, refused=[])


@pytest.mark.parametrize("port", [8000, "web"])
def test_only_the_port_that_a_policy_names_is_open(pods: Pods, port: int | str) -> None:
    with policy(pods, "server", ingress=[{"from": [GUESTS], "ports": [{"port": port}]}]):
        pods.become(served=[], refused=CLIENTS, port=8001)
        pods.become(served=["guest-0", "guest-1"], refused=["stranger-0", "stranger-1"], port=8000)


def test_a_namespace_is_named_by_its_labels(pods: Pods) -> None:
    def of(namespace: str) -> Manifest:
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}

    with policy(pods, "server", ingress=[{"from": [of("kube-system")]}]):
        pods.become(served=[], refused=CLIENTS)
    with policy(pods, "server", ingress=[{"from": [of("default")]}]):
        pods.become(served=CLIENTS, refused=[])


def test_who_may_only_go_elsewhere_is_refused(pods: Pods) -> None:
    elsewhere = {"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{pods.addresses['server']}/32"]}}
    with policy(pods, "guest", policyTypes=["Egress"], egress=[{"to": [elsewhere]}]):
        pods.become(served=["stranger-0", "stranger-1"], refused=["guest-0", "guest-1"])
    with policy(pods, "guest", policyTypes=["Egress"], egress=[{"to": [ANYWHERE]}]):
        pods.become(served=CLIENTS, refused=[])


def test_what_is_allowed_out_must_still_be_allowed_in(pods: Pods) -> None:
    with policy(pods, "guest", policyTypes=["Egress"], egress=[{}]), policy(pods, "server", ingress=[]):
        pods.become(served=[], refused=CLIENTS)


def test_whom_nobody_may_ask_is_answered(pods: Pods) -> None:
    with policy(pods, "guest", ingress=[]):
        eventually(lambda: not pods.is_served("stranger-0", 8000, by="guest-0"), "nobody may ask the guest")
        pods.become(served=["guest-0"], refused=[])
