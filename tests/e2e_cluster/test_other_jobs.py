"""Examples with another backend or layout than the job of the other modules: drained on the way, and complete.

They come when that job has ended, and have the cluster for themselves one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_jobs import shortened
from kube.cluster import Cluster
from rljob_api.progress import TrainPhase
from rljob_operator import names

from .job import Job
from .test_drain_phases import drained_while, trainers_of

STEPS = {"addition-cpu.yaml": 60, "moe-megatron-cpu.yaml": 12}
"""Of the first so many, with a save after every few, that it neither ends nor makes its last save before it is drained
again: a step takes a fifth of a second."""
SAVE_PERIOD = 6


@pytest.fixture
def example(rljob_cluster: Cluster, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Job]:
    """The job of an example's file, with fewer steps and one server, as a user applies it."""
    manifest, file = shortened(request.param, STEPS[request.param]), tmp_path / request.param
    manifest["spec"]["checkpoint"]["savePeriod"] = SAVE_PERIOD
    file.write_text(json.dumps(manifest))
    rljob_cluster.kubectl("apply", "-f", file)
    job = Job(rljob_cluster, manifest["metadata"]["name"])
    yield job
    job.cluster.kubectl("delete", "rljob", job.name)
    # It stays, as the file does not say otherwise: a second try would find another job's checkpoints.
    job.cluster.kubectl("delete", "persistentvolumeclaim", names.claim(job.name))


@pytest.mark.parametrize("example", ["addition-cpu.yaml"], indirect=True)
def test_a_job_on_dtensor_is_drained_while_it_samples_and_while_it_saves(example: Job) -> None:
    job = example
    job.wait_for(lambda: job.step() >= 1, "it trains")
    for phase in (TrainPhase.GENERATE, TrainPhase.SAVE):
        drain(job, phase)
    complete(job, preemptions=2)


@pytest.mark.slow
@pytest.mark.parametrize("example", ["addition-cpu.yaml"], indirect=True)
def test_a_job_on_dtensor_is_drained_before_and_after_all_its_steps(example: Job) -> None:
    """What is loaded is given up, and what is exported is finished: nothing comes after it."""
    for number, phase in enumerate((TrainPhase.PREPARE, TrainPhase.LOAD, TrainPhase.EXPORT), start=1):
        wait_for_attempt(example, number)
        with drained_while(example, phase):
            pass
    complete(example, preemptions=2)


def wait_for_attempt(job: Job, number: int) -> None:
    job.wait_for(lambda: job.attempt() == number, f"attempt {number} begins")


def drain(job: Job, phase: TrainPhase) -> None:
    """Its pods come back to the same node, to which they are bound by their claim: one node may write there."""
    before = job.attempt()
    with drained_while(job, phase) as step:
        pass
    job.wait_for(lambda: job.is_back(after=before), "the gang is back")
    assert job.last_attempt()["lostSteps"] == 0
    assert job.last_attempt()["fromStep"] >= step


@pytest.mark.parametrize("example", ["moe-megatron-cpu.yaml"], indirect=True)
def test_a_job_with_experts_is_drained_while_its_model_is_converted(example: Job) -> None:
    job = example
    job.wait_for(lambda: job.phase() == "Converting", "its model is converted")
    node = job.nodes("trainer")[job.trainer()]
    job.cluster.kubectl("drain", node, *trainers_of(job))
    job.cluster.kubectl("uncordon", node)
    job.wait_for(lambda: job.is_back(after=1), "the gang is back")
    complete(job, preemptions=1)
    assert max(job.left().curve("mismatch_max").values()) < 1e-4


def complete(job: Job, preemptions: int) -> None:
    job.wait_for(lambda: job.is_("Complete"), "it is complete")
    assert job.step() == job.status()["progress"]["totalSteps"]
    assert job.status()["preemptions"] == preemptions
