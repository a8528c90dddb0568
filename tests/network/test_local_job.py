"""The network of a running job is cut, and loses packets: the job goes on when it heals, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.kills import step
from e2e.local_job import LocalJob, addition
from kube.fixtures import skipped_if_unavailable
from network.own_network import own_network
from network.trouble import HALF, cut_off, trouble
from rljob_api.failure import RoleName
from rljob_api.job import RLJob
from rljob_api.status import Phase, Status
from rljob_operator import names
from rljob_operator.cluster.addresses import addresses

pytestmark = pytest.mark.timeout(2400)

MANY_STEPS = 5000
"""More than are taken: the test stops the job."""
MANY = 50
"""Packets that have to be lost before the network heals."""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[LocalJob]:
    """One with two servers that trains, in a network of its own."""
    with skipped_if_unavailable(), own_network():
        one = LocalJob(addition(MANY_STEPS), tmp_path).start()
        yield one
        one.kill()


def test_a_network_that_is_cut_and_loses_packets_costs_time_and_nothing_else(job: LocalJob) -> None:
    job.wait_for(lambda: step(job) >= 1 and told(job).rollout.ready == "2/2")
    ranks = job.ranks()
    cut_a_rollout_off(job)
    cut_the_trainer_off(job)
    lose_half_of_the_packets(job)
    assert job.ranks() == ranks, "no rank was restarted"
    assert job.stop() == 130
    status = told(job)
    assert (status.phase, status.restarts) == (Phase.SUSPENDED, 0)
    assert sorted(job.volume.losses()) == list(range(1, status.progress.step + 1))


def cut_a_rollout_off(job: LocalJob) -> None:
    """Training goes on with the other one, and the status says so. It comes back, or is replaced if it takes long."""
    with trouble(cut_off(address(job, RoleName.ROLLOUT, 1))):
        job.wait_for(lambda: told(job).rollout.ready == "1/2")
        goes_on(job)
    goes_on(job)


def cut_the_trainer_off(job: LocalJob) -> None:
    """Nobody can ask it, its ranks do not reach each other's meeting point, and it reaches no server."""
    with trouble(cut_off(address(job, RoleName.TRAINER, 0))) as lost:
        job.wait_for(lambda: job.progress() is None and lost() > MANY)
    goes_on(job)


def lose_half_of_the_packets(job: LocalJob) -> None:
    with trouble(HALF) as lost:
        job.wait_for(lambda: lost() > MANY)
    goes_on(job)


def goes_on(job: LocalJob) -> None:
    job.wait_for(lambda: step(job) >= 0)
    done = step(job)
    job.wait_for(lambda: step(job) > done)


def address(job: LocalJob, role: RoleName, index: int) -> str:
    """Of a pod."""
    one = RLJob.parse(job.manifest)
    return addresses(one, job.work_dir)[names.host(one.metadata.name, role, index)]


def told(job: LocalJob) -> Status:
    status = job.status()
    assert status is not None
    return status
