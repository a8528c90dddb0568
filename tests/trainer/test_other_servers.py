"""Rollout servers that compute otherwise than those before: what a gang notes of them, and when it draws nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from rljob_api.progress import Ending
from rljob_api.status import Exactness
from rljob_trainer.checkpoint.basis import read_basis
from rljob_trainer.checkpoint.directory import Directory
from rljob_trainer.checkpoint.verify import read_manifest
from trainer.answering import PROMPTS, Job, Server, a_model, answering, job_beside
from waiting import DEADLINE_SECONDS, until

EXACT = {"exactness": "Exact"}
OTHER = "cpu AVX2"
UNLIKE = f"server 0 computes with device {OTHER} instead of cpu AVX512"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the model of all jobs."""
    found = tmp_path_factory.mktemp("other-servers")
    a_model(found / "model")
    return found


def unlike(job: Job) -> list[str]:
    """What each checkpoint says of servers that were unlike the first."""
    directory = Directory(job.storage)
    return [read_manifest(directory.checkpoint(step)).versions.unlike_servers for step in directory.steps()]


def test_a_job_that_asks_for_exactness_asks_nothing_of_other_servers(folder: Path) -> None:
    """Once they are as before it goes on; and one that accepts less says what differs."""
    with answering(PROMPTS + 1) as server, job_beside(server, folder / "resumes", resume=EXACT) as job:
        job.start()
        job.end_at(1, 1, signal.SIGKILL)
        server.begin_anew()
        server.device = OTHER
        job.start()
        words = job.finish()
        told = f"would be Lossless: device of the rollout servers was cpu AVX512 and is {OTHER}"
        assert (words.ending, server.asked) == (Ending.UNMET, [])
        assert told in words.message
        job.changes = {"resume": {"exactness": "Lossless"}}
        assert job.resumed().exactness is Exactness.LOSSLESS


def in_its_second_step(job: Job, server: Server) -> None:
    """Start it, and wait until it has asked for all of its second step, and one group of that is kept."""
    job.start()
    asked = 2 * PROMPTS
    until(
        lambda: (job.kept(1), len(server.asked)) == (1, asked), "it is in its second step", DEADLINE_SECONDS
    )


def test_a_server_that_is_replaced_by_another_kind_is_noted_from_then_on(folder: Path) -> None:
    with answering(PROMPTS + 1) as server, job_beside(server, folder / "replaced") as job:
        in_its_second_step(job, server)
        assert unlike(job) == [""]
        server.replace(OTHER)
        assert job.finish().ending is Ending.COMPLETE
        assert unlike(job)[-1] == UNLIKE
        basis = read_basis(job.storage)
        assert basis is not None
        assert basis.versions.unlike_servers == UNLIKE


def test_a_job_that_asks_for_exactness_draws_nothing_from_a_server_that_is_replaced_by_another_kind(
    folder: Path,
) -> None:
    with answering(PROMPTS + 1) as server, job_beside(server, folder / "stops", resume=EXACT) as job:
        in_its_second_step(job, server)
        server.replace(OTHER)
        words = job.finish()
        assert (words.ending, server.asked) == (Ending.UNMET, []), words.message
        assert UNLIKE in words.message
        assert unlike(job) == [""]
