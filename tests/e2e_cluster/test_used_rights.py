"""What the operator is granted is what it uses: its roles beside the cluster's audit log.

Jobs here never run, for their image does not exist: the operator's part of their lives takes seconds. What other
modules made it do counts as well.
"""

from __future__ import annotations

from kube.cluster import Cluster
from kube.pods import busybox, create
from rljob_operator import names
from rljob_operator.cluster.rights import JOB_RIGHTS, LEASE_RIGHTS
from rljob_operator.cluster.standing import RUNS_KEPT
from waiting import until

from .audit import Asked, AuditLog
from .deployment import Installation
from .job import JOBS, NAMESPACE, UNPRIVILEGED, Job, addition

CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
NO_IMAGE = "localhost/there-is-none:1"
Used = tuple[str, str, str]
"""Group, resource, verb."""


def idle(cluster: Cluster, name: str, **spec: object) -> Job:
    """A job whose pods never run."""
    body = addition(name, 10, trainer={"image": NO_IMAGE}, **{"rollout": {"image": NO_IMAGE}, **spec})
    answer = cluster.api.post(JOBS, body)
    assert answer.code == 201, answer.message
    return Job(cluster, name)


def test_every_right_is_used_and_none_is_missing(installation: Installation) -> None:
    cluster = installation.cluster
    meets_namesakes(cluster)
    is_over(cluster)
    shrinks(installation)
    starts_again_and_again(cluster)
    misses_a_secret(cluster)
    asked = list(AuditLog(cluster).of_operator())
    assert [one for one in asked if one.code == 403] == []
    assert {use for one in asked for use in uses(one)} == granted()


def granted() -> set[Used]:
    rights = (*JOB_RIGHTS, *LEASE_RIGHTS)
    return {(right.group, right.resource, verb) for right in rights for verb in right.verbs}


def uses(one: Asked) -> set[Used]:
    """An apply that made the object needed the right to create as well."""
    verbs = {one.verb} | ({"create"} if (one.verb, one.code) == ("patch", 201) else set())
    return {(one.group, one.resource, verb) for verb in verbs}


def meets_namesakes(cluster: Cluster) -> None:
    """It reads what stands in its way, to see whose it is: a pod, and an attempt's ConfigMap."""
    create(cluster.api, busybox(names.trainer_pod("first", 0, 1), "sleep 1000", **UNPRIVILEGED))
    config_map = {"metadata": {"name": names.run_config_map("second", 1)}}
    assert cluster.api.post(CONFIG_MAPS, config_map).code == 201
    for name in ("first", "second"):
        meets_a_namesake(idle(cluster, name))


def meets_a_namesake(job: Job) -> None:
    job.told("Accepted", "NameTaken")
    delete(job)


def is_over(cluster: Cluster) -> None:
    """It deletes a job whose time after its end has passed."""
    job = idle(cluster, "over", activeDeadlineSeconds=1, ttlSecondsAfterFinished=1)
    eventually_gone(job)


def shrinks(installation: Installation) -> None:
    """It deletes the budget of a job that has one server left, and policies that the administrator gave up."""
    two = {"image": NO_IMAGE, "replicas": 2}
    job = idle(installation.cluster, "shrinking", rollout=two)
    job.wait_for(lambda: len(job.pods()) == 3, "its pods are there")
    installation.upgrade("--set=jobDefaults.networkPolicies=false")
    job.edit({"rollout": {"replicas": 1}})
    job.wait_for(lambda: not surroundings(job), "budget and policies are gone")
    delete(job)
    installation.upgrade()


def surroundings(job: Job) -> list[str]:
    kinds = "networkpolicies,poddisruptionbudgets"
    selector = f"--selector=rljob.io/name={job.name}"
    return job.cluster.kubectl("get", kinds, selector, "--output=name").split()


def starts_again_and_again(cluster: Cluster) -> None:
    """It deletes the ConfigMaps of old attempts."""
    job = idle(cluster, "again")
    for attempt in range(1, RUNS_KEPT + 2):
        starts_and_is_suspended(job, attempt)
    first = f"{CONFIG_MAPS}/{names.run_config_map('again', 1)}"
    job.wait_for(lambda: cluster.api.get(first).code == 404, "the first attempt's ConfigMap is gone")
    delete(job)


def starts_and_is_suspended(job: Job, attempt: int) -> None:
    job.wait_for(lambda: job.attempt() == attempt and job.trainer() in job.nodes(), "its pod is there")
    job.edit({"suspend": True})
    job.wait_for(lambda: job.is_("Suspended"), "it is suspended")
    job.edit({"suspend": False})


def misses_a_secret(cluster: Cluster) -> None:
    """It reads the Events of a pod that has a node and does not start."""
    volume = {"name": "keys", "secret": {"secretName": "there-is-none"}}
    mount = {"name": "keys", "mountPath": "/keys"}
    template = {"spec": {"volumes": [volume]}}
    job = idle(cluster, "waits", rollout={"image": NO_IMAGE, "template": template, "volumeMounts": [mount]})
    job.told("Accepted", "SecretMissing")
    delete(job)


def delete(job: Job) -> None:
    job.cluster.api.delete(f"{JOBS}/{job.name}")
    eventually_gone(job)


def eventually_gone(job: Job) -> None:
    until(lambda: job.cluster.api.get(f"{JOBS}/{job.name}").code == 404 and not job.pods(), "it is gone")
