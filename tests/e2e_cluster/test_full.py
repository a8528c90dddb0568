"""The volume of a job that trains is full for a while: saves fail, steps are finished, nothing is restarted for it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from .job import Job

CHUNK = bytes(1 << 20)
PAUSE_S = 0.01
UNUSABLE = ["--field-selector=reason=VolumeUnusable", "--output=name"]


def test_a_full_volume_costs_no_step(job: Job) -> None:
    job.wait_for(job.is_whole, "it trains beside both servers")
    pods, attempt = job.containers(""), job.attempt()
    with full(job.volume()):
        assert "space" in job.told("CheckpointReady", "SaveFailed")
        before = job.step()
        job.goes_on(after=before)
    job.wait_for(lambda: job.saved() > before, "it saves again")
    job.wait_for(lambda: job.condition("CheckpointReady")["reason"] != "SaveFailed", "and says so")
    assert (job.containers(""), job.attempt()) == (pods, attempt)


def test_a_trainer_that_must_go_while_it_is_full_comes_back_once_there_is_room(job: Job) -> None:
    """Attempts that find no room are not counted, or the job would fail within minutes."""
    before, counted = job.attempt(), job.status()["restartsCountTowardsMax"]
    with full(job.volume()):
        job.cluster.kubectl("delete", "pod", job.trainer(), "--wait=false")
        job.wait_for(lambda: job.cluster.kubectl("get", "events", *UNUSABLE), "an event says what it lacks")
    job.wait_for(lambda: job.is_back(after=before), "the gang is back")
    assert job.status()["restartsCountTowardsMax"] == counted


@contextmanager
def full(volume: Path) -> Iterator[None]:
    """In the block nothing more fits onto it, also when something there is removed, as a draft of a save is."""
    file, over = volume / "something-large", Event()
    with ThreadPoolExecutor() as pool:
        filling = pool.submit(_fill, file, over)
        try:
            yield
        finally:
            over.set()
            filling.result()
            file.unlink()


def _fill(file: Path, over: Event) -> None:
    with file.open("wb", buffering=0) as large:
        while not over.is_set():
            try:
                large.write(CHUNK)  # as much of it as fits
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                over.wait(PAUSE_S)
