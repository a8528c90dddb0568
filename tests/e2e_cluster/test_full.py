"""The volume of a job that trains is full for a while: saves fail, steps are finished, and nothing is restarted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .job import Job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_full_volume_costs_no_step(job: Job) -> None:
    job.wait_for(job.is_whole, "it trains beside both servers")
    pods, attempt = job.containers(""), job.attempt()
    with full(job.volume()):
        assert "space" in job.told("CheckpointReady", "SaveFailed")
        before = job.step()
        job.wait_for(lambda: job.step() > before + 2, "steps go on")
    job.wait_for(lambda: job.saved() > before, "it saves again")
    job.wait_for(lambda: job.condition("CheckpointReady")["reason"] != "SaveFailed", "and says so")
    assert (job.containers(""), job.attempt()) == (pods, attempt)


@contextmanager
def full(volume: Path) -> Iterator[None]:
    """In the block nothing more fits onto it."""
    file = volume / "something-large"
    found = os.statvfs(volume)
    try:
        with file.open("wb") as large:
            os.posix_fallocate(large.fileno(), 0, found.f_bavail * found.f_frsize)
        yield
    finally:
        file.unlink()
