"""The DNS stops answering for a while, the API server for minutes, while a job trains: it goes on and loses nothing."""

from __future__ import annotations

import time

import pytest

from kube.processes import Failure
from waiting import until

from .job import WITHIN_S, Job

NO_NAMES_SECONDS = 30
"""Longer than names are remembered."""
NO_API_SECONDS = 120
"""Longer than the operators' leases and than a node counts as alive."""
SETTLED_SECONDS = 20

pytestmark = pytest.mark.slow


def test_training_goes_on_without_names(job: Job) -> None:
    job.wait_for(lambda: job.ready() == "2/2", "both servers are ready")  # else another may come meanwhile
    pods, attempt = job.containers(""), job.attempt()
    with job.cluster.frozen("coredns"):
        time.sleep(NO_NAMES_SECONDS)
        job.goes_on(what="steps go on although names are forgotten")
    job.goes_on()
    assert (job.containers(""), job.attempt()) == (pods, attempt)


def test_training_goes_on_without_an_api_server_and_nothing_is_lost(job: Job) -> None:
    ask, before, servers = job.asking(), job.step(), job.containers("rollout")
    with job.cluster.frozen("kube-apiserver"):
        time.sleep(NO_API_SECONDS)
        until(lambda: ask() > before + 3, "steps go on", WITHIN_S)
        trained = ask()
        with pytest.raises(Failure):
            job.cluster.kubectl("get", "rljobs", "--request-timeout=1s")
    job.goes_on(after=trained, what="the status catches up, and steps go on")
    assert job.last_attempt().get("lostSteps", 0) == 0
    assert job.containers("rollout") == servers
    settle(job)


def settle(job: Job) -> None:
    """Nodes whose kubelets could not reach the API server are taken for lost, and pods that bear no such node go."""
    since, was = time.monotonic(), None

    def is_settled() -> bool:
        nonlocal since, was
        now = (job.phase(), job.ready(), job.attempt(), frozenset(job.containers("")), tainted(job))
        if now != was:
            since, was = time.monotonic(), now
        well = now[:2] == ("Training", "2/2") and not now[-1]
        return well and time.monotonic() > since + SETTLED_SECONDS

    job.wait_for(is_settled, "the job and the nodes are as before")


def tainted(job: Job) -> bool:
    nodes = job.cluster.api.get("/api/v1/nodes").body["items"]
    return any(node["spec"].get("taints") for node in nodes)
