"""Pods of a running job lose their network, each in its own namespace: it goes on when that heals, and loses nothing.

What is told here is what a cluster adds to `network/test_local_job.py`: kubelets probe from outside, and addresses are
those of services.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from network.trouble import FROM_OUTSIDE, HALF, trouble

from .job import Job

CUT_OFF = f"{FROM_OUTSIDE} counter drop"
HALF_IS_LOST = f"{FROM_OUTSIDE} {HALF}"
LONG_SECONDS = 45
"""Longer than a weight update waits for who is cut off."""
MANY = 100
"""Packets that have to be lost before the network heals."""


@pytest.fixture(autouse=True)
def nothing_is_restarted(job: Job) -> Iterator[None]:
    """Each test finds all as it was, and steps go on after it."""
    trainers, attempt = job.containers("trainer"), job.attempt()
    yield
    job.goes_on()
    job.wait_for(lambda: job.ready() == "2/2", "both servers are ready")
    assert (job.containers("trainer"), job.attempt()) == (trainers, attempt)


def test_training_goes_on_without_a_server_that_is_cut_off(job: Job) -> None:
    server = min(job.pods("rollout"))
    with trouble(CUT_OFF, job.in_network_of(server)):
        job.wait_for(lambda: job.ready() == "1/2", "the status says that one server is gone")
        job.goes_on(what="steps go on with the other")


@pytest.mark.slow
def test_a_trainer_that_is_cut_off_waits_and_goes_on(job: Job) -> None:
    servers = job.containers("rollout")
    with trouble(CUT_OFF, job.in_network_of(job.trainer())) as lost:
        time.sleep(LONG_SECONDS)
        assert job.phase() == "Training"
        job.wait_for(lambda: lost() > MANY, "packets were lost")
    assert job.containers("rollout") == servers


@pytest.mark.slow
def test_training_goes_on_where_half_of_the_packets_are_lost(job: Job) -> None:
    with trouble(HALF_IS_LOST, job.in_network_of(job.trainer())) as lost:
        job.wait_for(lambda: lost() > MANY, "packets were lost")
