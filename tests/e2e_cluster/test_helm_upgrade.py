"""The operator is replaced, or not there at all, while a job trains: the job does not feel it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from kube.cluster import Cluster
from rljob_api.crd import validation
from rljob_api.rule import Rule

from .audit import AuditLog
from .deployment import CHART, NAMESPACE, Installation, operators
from .job import JOBS, Job, addition

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/rljob-operator"
NEW_DEFAULT = ["--set=jobDefaults.env[0].name=NEWLY", "--set-string=jobDefaults.env[0].value=set"]
NEW_VALUE = ["--set=podLabels.newly=set"]
NEW_RULE = Rule(
    "one-server",
    "rollout.replicas",
    "no job of this version has two servers",
    lambda spec: spec.rollout.replicas < 2,
    "self.rollout.replicas < 2",
)


def test_an_upgrade_with_a_new_default_and_a_new_rule_writes_no_pod(
    installation: Installation, job: Job, tmp_path: Path
) -> None:
    cluster, pods, log = job.cluster, uids(job), AuditLog.from_now(job.cluster)
    installation.upgrade(*NEW_DEFAULT, *NEW_VALUE, chart=with_a_rule(tmp_path))
    refused = cluster.api.post(JOBS, addition("new", 1, rollout={"replicas": 2}))
    assert NEW_RULE.message in refused.message
    suspended = cluster.api.merge(f"{JOBS}/{job.name}?dryRun=All", {"spec": {"suspend": True}})
    assert suspended.code == 200, suspended.message
    new = {pod["metadata"]["name"] for pod in operators(cluster) if "newly" in pod["metadata"]["labels"]}
    job.wait_for(lambda: holder(cluster) in new, "a new operator leads")
    job.goes_on(what="the new operator tells of more steps")
    assert uids(job) == pods
    assert writes_of_pods(log) == []
    installation.upgrade()


def with_a_rule(folder: Path) -> Path:
    """The chart as a later version may be: the job that runs breaks one of its rules."""
    copy = folder / CHART.name
    shutil.copytree(CHART, copy)
    file = copy / "files" / "rljobs.yaml"
    of_spec = "            x-kubernetes-validations:\n"
    assert file.read_text().count(of_spec) == 1
    rule = validation(NEW_RULE)
    file.write_text(file.read_text().replace(of_spec, f"{of_spec}            - {json.dumps(rule)}\n"))
    return copy


def test_a_job_goes_on_without_an_operator_and_nothing_restarts_when_one_comes(job: Job) -> None:
    cluster, pods = job.cluster, uids(job)
    scale(cluster, 0)
    job.wait_for(lambda: not operators(cluster), "no operator is left")
    log, known = AuditLog.from_now(cluster), job.step()
    job.wait_for(lambda: job.trained() >= known + 20, "training goes on")
    assert job.step() == known, "somebody writes the status"
    scale(cluster, 2)
    job.wait_for(lambda: job.step() >= known + 20, "the status catches up")
    assert uids(job) == pods
    assert writes_of_pods(log) == []


def scale(cluster: Cluster, replicas: int) -> None:
    cluster.kubectl("--namespace", NAMESPACE, "scale", "deployment/rljob-operator", f"--replicas={replicas}")


def holder(cluster: Cluster) -> str:
    return str(cluster.api.get(LEASE).body["spec"]["holderIdentity"])


def uids(job: Job) -> dict[str, str]:
    return {name: pod["metadata"]["uid"] for name, pod in job.pods().items()}


def writes_of_pods(log: AuditLog) -> list[str]:
    return [f"{one.verb} {one.name}" for one in log.of_operator() if one.resource == "pods" and one.is_write]
