"""The life of a job on a real cluster, with real training and real vLLM. The tests act on one job in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .conftest import MANY_STEPS
from .deployment import NAMESPACE as OPERATORS
from .job import HOSTNAME, WITHIN_S, Job

SPREAD = {"maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "DoNotSchedule"}
A_RANK_A_NODE = {
    "numNodes": 2,
    "numProcPerNode": 1,
    "template": {"spec": {"affinity": None, "topologySpreadConstraints": [SPREAD]}},
}
"""For the trainer: its two ranks in a pod each, on different nodes."""
TWO_STAGES = {"tensor": 1, "pipeline": 2}
"""Of the model, in place of two halves of each layer."""
MORE_STEPS = 45
"""After the resume: enough for three restarts of the gang on the way."""
COLUMNS = ["NAME", "BACKEND", "PHASE", "STEP", "REWARD", "CKPT", "TRAINERS", "ROLLOUTS", "RESTARTS", "AGE"]


def test_a_job_trains_and_its_columns_say_so(job: Job) -> None:
    job.wait_for(lambda: job.ready() == "2/2", "both servers are ready")
    header, line = job.cluster.kubectl("get", "rljobs").splitlines()
    assert header.split() == COLUMNS
    name, backend, phase, step, *_, trainers, rollouts, restarts, _age = line.split()
    assert (name, backend, phase, trainers, rollouts) == ("life", "megatron", "Training", "1/1", "2/2")
    assert step.endswith(f"/{MANY_STEPS}")
    assert restarts == str(job.status().get("restarts", 0))


def test_training_goes_on_while_a_killed_server_is_replaced(job: Job) -> None:
    trainers, before, attempt = job.containers("trainer"), job.step(), job.attempt()
    restarts, servers = job.rollout()["restarts"], set(job.pods("rollout"))
    job.kill(min(servers))
    job.wait_for(lambda: set(job.pods("rollout")) - servers, "the server is replaced")
    job.goes_on(after=before)
    job.wait_for(
        lambda: (now := job.rollout())["restarts"] > restarts and now["ready"] == "2/2",
        "one is counted, and both servers are ready again",
    )
    assert job.containers("trainer") == trainers
    assert job.attempt() == attempt
    assert job.rollout()["restarts"] == restarts + 1


def test_servers_go_and_come_while_training_goes_on(job: Job) -> None:
    trainers, attempt = job.containers("trainer"), job.attempt()
    resize(job, 1)
    resize(job, 2)
    assert (job.containers("trainer"), job.attempt()) == (trainers, attempt)


def resize(job: Job, replicas: int) -> None:
    """As a person or an autoscaler does, and until so many servers have weights."""
    job.cluster.kubectl("scale", "rljob", job.name, f"--replicas={replicas}")
    job.wait_for(
        lambda: job.ready() == f"{replicas}/{replicas}" and len(job.nodes("rollout")) == replicas,
        f"so many servers are there, {replicas}, and ready",
    )
    job.goes_on()


def test_a_killed_trainer_starts_again_from_its_checkpoint_beside_the_same_servers(job: Job) -> None:
    servers, saved, before = job.containers("rollout"), job.saved(), job.attempt()
    job.kill(job.trainer())
    job.wait_for(lambda: job.is_back(after=before), "the gang is back")
    assert job.last_attempt()["fromStep"] >= saved
    job.goes_on(after=job.last_attempt()["fromStep"])
    assert job.containers("rollout") == servers


def test_the_model_is_converted_once_for_all_attempts(job: Job) -> None:
    said = job.cluster.kubectl("logs", job.trainer(), "--container=convert")
    assert "the model is converted" in said
    assert "converting" not in said


def test_nothing_is_made_twice_when_the_operator_dies_in_a_restart(job: Job) -> None:
    before, attempt = job.step(), job.attempt()
    job.kill(job.trainer())
    job.cluster.kubectl("--namespace", OPERATORS, "delete", "pods", "--all", "--force", "--grace-period=0")
    job.wait_for(lambda: job.is_back(after=attempt), "the gang is back")
    job.goes_on(after=before, what="it is past its last step")
    assert job.attempt() == attempt + 1
    slots = sorted(name.rpartition("-")[0] for name in job.nodes())
    assert slots == ["life-rollout-0", "life-rollout-1", "life-trainer-0"]


def test_suspend_saves_and_resume_loses_nothing_in_two_stages_on_two_nodes(job: Job) -> None:
    job.edit({"suspend": True})
    job.wait_for(lambda: job.is_("Suspended"), "the job is suspended")
    assert job.nodes() == {}
    stopped_at = job.saved()
    last = {"algorithm": {"grpo": {"maxSteps": stopped_at + MORE_STEPS}}}
    job.edit({"suspend": False, "trainer": A_RANK_A_NODE, "parallelism": TWO_STAGES, **last})
    job.goes_on(after=stopped_at)
    assert job.last_attempt()["fromStep"] == stopped_at
    assert job.last_attempt()["lostSteps"] == 0
    assert sorted(job.nodes("trainer").values()) == ["node0", "node1"]


def test_a_gang_on_two_nodes_starts_again_as_a_whole_when_one_of_its_pods_is_killed(job: Job) -> None:
    resumed = job.last_attempt()["fromStep"]
    job.wait_for(lambda: job.saved() > resumed, "both of its pods wrote a checkpoint")
    servers, before, gang = job.containers("rollout"), job.attempt(), job.containers("trainer")
    saved = job.saved()
    job.kill(job.trainer(index=1))
    job.wait_for(lambda: job.is_back(after=before), "the gang is back")
    assert job.last_attempt()["fromStep"] >= saved
    assert set(job.nodes("trainer")) == {job.trainer(), job.trainer(index=1)}
    assert not job.containers("trainer") & gang
    assert job.containers("rollout") == servers


def test_a_gang_on_two_nodes_loses_no_step_when_one_of_its_pods_is_told_to_go(job: Job) -> None:
    job.goes_on(after=job.last_attempt()["fromStep"])
    before, attempt = job.status(), job.attempt()
    answer = job.evict(job.trainer(index=1))
    assert answer.code == 201, answer.message
    job.wait_for(lambda: job.is_back(after=attempt), "the gang is back")
    now = job.status()
    assert (now["attempt"]["number"], now["attempt"]["lostSteps"]) == (attempt + 1, 0)
    assert now["preemptions"] == before["preemptions"] + 1
    assert now["restartsCountTowardsMax"] == before["restartsCountTowardsMax"]


def test_a_gang_on_two_nodes_of_which_a_pod_is_deleted_by_force_was_preempted(job: Job) -> None:
    """The ranks of the other one fail of that: it is not their fault, and counts towards no limit."""
    job.goes_on(after=job.last_attempt()["fromStep"])
    before, attempt = job.status(), job.attempt()
    job.cluster.kubectl("delete", "pod", job.trainer(index=1), "--force", "--grace-period=0")
    job.wait_for(lambda: job.is_back(after=attempt), "the gang is back")
    now = job.status()
    assert (now["attempt"]["number"], now["attempt"]["reason"]) == (attempt + 1, "PodsGone")
    assert now["preemptions"] == before["preemptions"] + 1
    assert now["restartsCountTowardsMax"] == before["restartsCountTowardsMax"]


def test_its_logs_are_followed_until_it_is_complete(job: Job) -> None:
    with following(job) as log:
        job.wait_for(lambda: job.is_("Complete"), "the job is complete")
        lines = log()
    assert job.step() == job.get()["spec"]["algorithm"]["grpo"]["maxSteps"]
    for pod in (job.trainer(), job.trainer(index=1)):
        assert any(line.startswith(f"[{pod}] ") for line in lines), pod


def test_kubectl_waits_for_its_end_also_after_an_edit(job: Job) -> None:
    """It passes over a condition that is older than the spec."""
    for days in (1, 2):
        job.edit({"ttlSecondsAfterFinished": days * 24 * 3600})
        job.cluster.kubectl("wait", "--for=condition=Complete", f"rljob/{job.name}", "--timeout=1200s")


@contextmanager
def following(job: Job) -> Iterator[Callable[[], list[str]]]:
    """What gives the lines of `kubectl rljob logs --follow` once it has ended by itself."""
    program = Path(sys.executable).with_name("kubectl-rljob")
    environment = os.environ | {"KUBECONFIG": str(job.cluster.kubeconfig)}
    with subprocess.Popen(
        [program, "logs", job.name, "--follow"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:

        def lines() -> list[str]:
            said, _ = process.communicate(timeout=WITHIN_S)
            return said.splitlines()

        try:
            yield lines
            assert process.returncode == 0
        finally:
            process.kill()


def test_after_the_end_servers_are_gone_and_the_trainers_log_can_be_read(job: Job) -> None:
    job.wait_for(lambda: not job.pods("rollout"), "the servers are gone")
    assert "step" in job.cluster.kubectl("logs", job.trainer())


def test_deleting_the_job_leaves_its_claim_alone(job: Job) -> None:
    job.cluster.kubectl("delete", "rljob", "life")
    kinds = "pods,services,configmaps,secrets,networkpolicies,poddisruptionbudgets,persistentvolumeclaims"
    job.wait_for(lambda: left(job, kinds) == ["persistentvolumeclaim/life-storage"], "only the claim is left")


def left(job: Job, kinds: str) -> list[str]:
    return job.cluster.kubectl("get", kinds, "--selector=rljob.io/name=life", "--output=name").split()
