"""The life of a job on a real cluster, with real training and real vLLM. The tests act on one job in turn."""

from __future__ import annotations

import json

import pytest

from kube.cluster import Cluster
from kube.processes import run

from .deployment import NAMESPACE as OPERATORS
from .job import JOBS, Job, addition

MANY_STEPS = 5000
"""More than are taken before the last test asks for fewer."""
COLUMNS = ["NAME", "BACKEND", "PHASE", "STEP", "REWARD", "CKPT", "TRAINERS", "ROLLOUTS", "RESTARTS", "AGE"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def job(rljob_cluster: Cluster) -> Job:
    manifest = addition("life", MANY_STEPS, rollout={"replicas": 2, "vllm": {"maxModelLen": 64}})
    answer = rljob_cluster.api.post(JOBS, manifest)
    assert answer.code == 201, answer.message
    return Job(rljob_cluster, "life")


def test_a_job_trains_and_its_columns_say_so(job: Job) -> None:
    job.wait_for(lambda: job.step() >= 2, "two steps are done")
    job.wait_for(lambda: job.status()["rollout"]["ready"] == "2/2", "both servers are ready")
    header, line = job.cluster.kubectl("get", "rljobs").splitlines()
    assert header.split() == COLUMNS
    name, backend, phase, step, *_, trainers, rollouts, restarts, _age = line.split()
    assert (name, backend, phase, trainers, rollouts, restarts) == (
        "life",
        "dtensor",
        "Training",
        "1/1",
        "2/2",
        "0",
    )
    assert step.endswith(f"/{MANY_STEPS}")


def test_training_goes_on_while_a_killed_server_is_replaced(job: Job) -> None:
    trainers, before = containers(job, "trainer"), job.step()
    kill(job, "life-rollout-0-0")
    job.wait_for(lambda: "life-rollout-0-1" in job.pods("rollout"), "the server is replaced")
    job.wait_for(lambda: job.step() > before + 2, "steps go on")
    job.wait_for(lambda: job.status()["rollout"]["ready"] == "2/2", "both servers are ready again")
    assert containers(job, "trainer") == trainers
    assert job.attempt() == 1
    assert job.status()["rollout"]["restarts"] == 1


def test_a_killed_trainer_starts_again_from_its_checkpoint_beside_the_same_servers(job: Job) -> None:
    job.wait_for(lambda: saved(job) > 0, "a checkpoint is saved")
    servers, saved_before = containers(job, "rollout"), saved(job)
    kill(job, "life-trainer-0-1")
    job.wait_for(lambda: attempt(job).get("fromStep") is not None and job.attempt() == 2, "the gang is back")
    assert attempt(job)["fromStep"] >= saved_before
    job.wait_for(lambda: job.step() > attempt(job)["fromStep"] + 2, "steps go on")
    assert containers(job, "rollout") == servers


def test_nothing_is_made_twice_when_the_operator_dies_in_a_restart(job: Job) -> None:
    before = job.step()
    kill(job, "life-trainer-0-2")
    job.cluster.kubectl("--namespace", OPERATORS, "delete", "pods", "--all", "--force", "--grace-period=0")
    job.wait_for(
        lambda: job.attempt() == 3 and job.step() > before + 2, "the gang is back and past its last step"
    )
    alive = [name for name, pod in job.pods().items() if pod["status"]["phase"] == "Running"]
    assert sorted(name.rpartition("-")[0] for name in alive) == [
        "life-rollout-0",
        "life-rollout-1",
        "life-trainer-0",
    ]
    assert "life-trainer-0-3" in alive


def test_suspend_saves_and_resume_loses_nothing(job: Job) -> None:
    job.cluster.kubectl(
        "patch", "rljob", "life", "--type=merge", "--patch", json.dumps({"spec": {"suspend": True}})
    )
    job.wait_for(lambda: job.is_("Suspended"), "the job is suspended")
    assert all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in job.pods().values())
    stopped_at = saved(job)
    grpo = {"algorithm": {"grpo": {"maxSteps": stopped_at + 10}}}
    job.cluster.kubectl(
        "patch", "rljob", "life", "--type=merge", "--patch", json.dumps({"spec": {"suspend": False, **grpo}})
    )
    job.wait_for(lambda: job.is_("Complete"), "the job is complete")
    assert attempt(job)["fromStep"] == stopped_at
    assert attempt(job)["lostSteps"] == 0
    assert job.step() == stopped_at + 10


def test_after_the_end_servers_are_gone_and_the_trainers_log_can_be_read(job: Job) -> None:
    job.wait_for(lambda: not job.pods("rollout"), "the servers are gone")
    (trainer,) = job.pods("trainer")
    assert "step" in job.cluster.kubectl("logs", trainer)


def test_deleting_the_job_leaves_its_claim_alone(job: Job) -> None:
    job.cluster.kubectl("delete", "rljob", "life")
    kinds = "pods,services,configmaps,secrets,networkpolicies,poddisruptionbudgets,persistentvolumeclaims"
    job.wait_for(lambda: left(job, kinds) == ["persistentvolumeclaim/life-storage"], "only the claim is left")


def left(job: Job, kinds: str) -> list[str]:
    return job.cluster.kubectl("get", kinds, "--selector=rljob.io/name=life", "--output=name").split()


def attempt(job: Job) -> dict[str, int]:
    return dict(job.status()["attempt"])


def saved(job: Job) -> int:
    """Step of the newest checkpoint."""
    return int((job.status()["checkpoint"].get("latest") or {}).get("step", 0))


def containers(job: Job, role: str) -> set[str]:
    """Ids of the containers that run now."""
    running = [pod for pod in job.pods(role).values() if pod["status"]["phase"] == "Running"]
    return {pod["status"]["containerStatuses"][0]["containerID"] for pod in running}


def kill(job: Job, pod: str) -> None:
    """Kill a pod's first process, as the kernel does when memory is short."""
    container = job.pods()[pod]["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    run(*job.cluster.ctr(), "tasks", "kill", "--signal", "SIGKILL", container)
