"""A gang that is ended while it generates goes on with the groups that were finished, and comes to the same end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from rljob_api.progress import Ending
from trainer.answering import PROMPTS, Job, Server, a_model, answering, job_beside

HELD = 4
"""Groups of the second step that are answered before the gang is ended."""

Results = tuple[dict[str, bytes], bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the model of all jobs."""
    found = tmp_path_factory.mktemp("kept")
    a_model(found / "model")
    return found


@pytest.fixture(scope="module")
def straight(folder: Path) -> Results:
    """What comes of the job that nothing interrupts."""
    with answering() as server, job_beside(server, folder / "straight") as job:
        job.start()
        words = job.finish()
        assert words.ending is Ending.COMPLETE, words.message
        assert len(server.asked) == 3 * PROMPTS
        assert job.rollouts == [], "what is saved is not kept"
        return job.results()


def goes_on(server: Server, job: Job) -> str:
    """The next attempt, to its end; what it says of its resume."""
    server.hold_after = None
    server.asked.clear()
    job.start()
    words = job.finish()
    assert words.ending is Ending.COMPLETE, words.message
    assert words.progress is not None
    assert words.progress.resumed is not None
    return words.progress.resumed.told


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_finished_groups_are_not_drawn_again(folder: Path, straight: Results, how: signal.Signals) -> None:
    with answering(PROMPTS + HELD) as server, job_beside(server, folder / how.name) as job:
        job.start()
        words = job.end_at(1, HELD, how, rank=1)
        assert (words.ending is Ending.PREEMPTED) is (how is signal.SIGTERM), words.message
        said = goes_on(server, job)
        assert len(server.asked) == 2 * PROMPTS - HELD
        assert f"{HELD} finished groups were kept" in said
        assert job.results() == straight
