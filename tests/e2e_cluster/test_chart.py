"""The chart on a real cluster: its own test, its people's rights, and dashboards that show a job which trains."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from charts.chart import CHART, helm, of_kind, rendered
from charts.prometheus import Prometheus, scraping
from charts.scraping import scrape_configs
from kube.api import Manifest
from kube.cluster import Cluster
from kube.fixtures import skipped_if_unavailable
from kube.pods import busybox, create, delete, eventually, is_in_phase, wait_for
from kube.processes import Command, Failure, run
from kube.programs import programs
from rljob_api.base import GROUP
from rljob_chart.operator_dashboard import OPERATOR
from rljob_chart.training_dashboard import TRAINING
from rljob_operator import names
from waiting import until

from .deployment import MONITORS, NAMESPACE, RELEASE, operators
from .job import UNPRIVILEGED, WITHIN_S, Job, network_of

LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
MONITORING = CHART / "ci" / "monitoring-values.yaml"


def test_helm_test_passes(rljob_cluster: Cluster) -> None:
    said = helm("test", RELEASE, "--kubeconfig", rljob_cluster.kubeconfig, "--namespace", NAMESPACE)
    assert "Phase:          Succeeded" in said


def test_one_of_two_replicas_leads(rljob_cluster: Cluster) -> None:
    pods = [pod["metadata"]["name"] for pod in operators(rljob_cluster)]
    assert len(pods) == 2
    eventually(lambda: bool(leases(rljob_cluster)), "one leads")  # both are ready before
    (lease,) = leases(rljob_cluster)
    assert lease["spec"]["holderIdentity"] in pods


def leases(cluster: Cluster) -> list[Manifest]:
    return list(cluster.api.get(LEASES).body["items"])


@pytest.mark.parametrize(
    ("role", "verbs"),
    [("view", {"get"}), ("edit", {"get", "create", "delete"}), ("admin", {"get", "create", "delete"})],
)
def test_people_may_with_jobs_what_they_may_with_the_rest_of_a_namespace(
    rljob_cluster: Cluster, role: str, verbs: set[str]
) -> None:
    binding = {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"one-who-may-{role}"}
    rljob_cluster.api.post(BINDINGS, {"metadata": {"name": role}, "subjects": [subject], **binding})

    def may(verb: str, *flags: str) -> bool:
        who = f"--as={subject['name']}"
        return answer_of(rljob_cluster, "auth", "can-i", verb, "rljobs", who, *flags) == "yes"

    eventually(
        lambda: {verb for verb in ("get", "create", "delete") if may(verb)} == verbs, f"{role} may {verbs}"
    )
    assert not may("update", "--subresource=status")


def answer_of(cluster: Cluster, *arguments: str) -> str:
    """What kubectl says, whatever its exit code: `auth can-i` answers no with one."""
    command = [str(programs("kubectl")["kubectl"]), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)"
"""Who may not is refused at once."""
STRANGER = {f"{GROUP}/name": "another", f"{GROUP}/role": "trainer"}
"""What a trainer of another job in the same namespace is labelled with."""


@pytest.fixture
def stranger(job: Job) -> Iterator[Command]:
    """Before a command: run it in the network of a pod that looks like a trainer of another job."""
    name = create(job.cluster.api, busybox("stranger", "sleep 1000", labels=STRANGER, **UNPRIVILEGED))
    pod = wait_for(job.cluster.api, name, is_in_phase("Running"))
    yield network_of(job.cluster, pod)
    delete(job.cluster.api, name)


def test_a_job_is_reached_by_its_own_trainers_and_by_no_stranger(job: Job, stranger: Command) -> None:
    """The same question from inside of two pods of one namespace; only one of them belongs to the job."""
    (trainer,), (server, _) = job.pods("trainer").values(), job.pods("rollout").values()
    assert opens(job.in_network_of(job.trainer()), server, names.ROLLOUT_PORT)
    assert not opens(job.in_network_of(server["metadata"]["name"]), trainer, names.MASTER_PORT)
    assert not opens(stranger, server, names.ROLLOUT_PORT)
    assert not opens(stranger, trainer, names.PROGRESS_PORT)
    assert not opens(stranger, trainer, names.MASTER_PORT)


@pytest.fixture
def monitor(job: Job) -> Command:
    """Before a command: run it in the network of a pod in the namespace that the installation names for monitoring."""
    api = job.cluster.api
    assert api.post("/api/v1/namespaces", {"metadata": {"name": MONITORS}}).code == 201
    account = f"/api/v1/namespaces/{MONITORS}/serviceaccounts/default"
    eventually(lambda: api.get(account).code == 200, "pods may be made there")
    name = create(api, busybox("monitor", "sleep 1000", labels=STRANGER, namespace=MONITORS))
    pod = wait_for(api, name, is_in_phase("Running"), MONITORS)
    return network_of(job.cluster, pod)


def test_monitoring_reaches_what_a_job_tells_and_nothing_else(job: Job, monitor: Command) -> None:
    """Once whoever enforces policies has heard of the namespace and of the pod."""
    (trainer,), (server, _) = job.pods("trainer").values(), job.pods("rollout").values()
    eventually(lambda: opens(monitor, trainer, names.PROGRESS_PORT), "progress is reached")
    eventually(lambda: opens(monitor, server, names.ROLLOUT_PORT), "a server is reached")
    assert not opens(monitor, trainer, names.MASTER_PORT)


def opens(inside: Command, pod: Manifest, port: int) -> bool:
    """Whether a connection can be opened from there."""
    try:
        run(*inside, sys.executable, "-c", CONNECT, pod["status"]["podIP"], str(port))
    except Failure:
        return False
    return True


def test_the_operator_reaches_progress_and_nothing_else_of_a_job(job: Job) -> None:
    """With the policies of chart and job in force: a job's status has shown steps, and this asks port by port."""
    (trainer,), (server, _) = job.pods("trainer").values(), job.pods("rollout").values()
    assert connects(job.cluster, trainer, names.PROGRESS_PORT)
    assert not connects(job.cluster, trainer, names.MASTER_PORT)
    assert not connects(job.cluster, server, names.ROLLOUT_PORT)


def connects(cluster: Cluster, pod: Manifest, port: int) -> bool:
    """Whether an operator's pod can open a connection."""
    where = [pod["status"]["podIP"], str(port)]
    command = ["exec", "deployment/rljob-operator", "--", "python", "-c", CONNECT, *where]
    try:
        cluster.kubectl("--namespace", NAMESPACE, *command)
    except Failure:
        return False
    return True


@pytest.fixture(scope="module")
def prometheus(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Prometheus]]:
    """One on each node, scraping what the chart's monitors select: policies let a node reach its own pods only."""
    monitors = rendered(MONITORING, release=RELEASE, namespace=NAMESPACE)
    monitors = [*of_kind("ServiceMonitor", monitors), *of_kind("PodMonitor", monitors)]
    with skipped_if_unavailable(), ExitStack() as servers:
        configs = scrape_configs(monitors, job.cluster.api.get("/api/v1/pods").body["items"], NAMESPACE)
        yield [
            servers.enter_context(scraping(configs, tmp_path_factory.mktemp(node), job.cluster.inside(node)))
            for node in sorted(set(job.nodes().values()))
        ]


@pytest.mark.parametrize("query", [*OPERATOR.queries, *TRAINING.queries])
def test_a_query_of_the_dashboards_shows_the_job_or_the_operator(
    query: str, job: Job, prometheus: list[Prometheus]
) -> None:
    asked = (
        query.replace("$__rate_interval", "10s").replace("$namespace", "default").replace("$rljob", job.name)
    )
    until(lambda: any(server.values(asked) for server in prometheus), f"{asked} returns data", WITHIN_S)
