"""A gang that is ended while it generates goes on with the groups that were finished, and comes to the same end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from rljob_api.progress import Ending, Resumed
from rljob_api.status import Exactness
from trainer.answering import PROMPTS, Job, Server, a_model, answering, job_beside
from trainer.test_checkpoint_verify import truncate

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


def goes_on(server: Server, job: Job) -> Resumed:
    """The next attempt, to its end; what it says of its resume."""
    server.begin_anew()
    resumed = job.resumed()
    assert resumed.exactness is Exactness.EXACT
    return resumed


def test_finished_groups_are_not_drawn_again(folder: Path, straight: Results) -> None:
    with answering(PROMPTS + HELD) as server, job_beside(server, folder / "killed") as job:
        job.start()
        job.end_at(1, HELD, signal.SIGKILL, rank=1)
        resumed = goes_on(server, job)
        assert len(server.asked) == 2 * PROMPTS - HELD
        assert f"{HELD} finished groups were kept" in resumed.told
        assert job.results() == straight


def test_all_attempts_that_were_ended_in_the_same_step_count(folder: Path, straight: Results) -> None:
    """Both were told to go; the second drew two groups of its own."""
    with answering(PROMPTS + 2) as server, job_beside(server, folder / "twice") as job:
        job.start()
        assert job.end_at(1, 2, signal.SIGTERM).ending is Ending.PREEMPTED
        server.begin_anew(PROMPTS + 4)
        job.start()
        words = job.end_at(1, 4, signal.SIGTERM, rank=1)
        assert words.ending is Ending.PREEMPTED, words.message
        resumed = goes_on(server, job)
        assert len(server.asked) == 2 * PROMPTS - 4
        assert resumed.kept_groups == 4
        assert job.results() == straight


def test_a_kill_far_from_a_checkpoint_costs_no_generation_but_of_what_is_torn(
    folder: Path, straight: Results
) -> None:
    """Steps that are done again come out the same, so what was drawn in them and after them is of use."""
    checkpoint = {"savePeriod": 10, "finishedRollouts": {"afterSeconds": 0}}
    with (
        answering(2 * PROMPTS + HELD) as server,
        job_beside(server, folder / "unsaved", checkpoint=checkpoint) as job,
    ):
        job.start()
        job.end_at(2, HELD, signal.SIGKILL)
        (second,) = (path for path in job.rollouts if path.name.startswith("step_1-"))
        truncate(second)
        resumed = goes_on(server, job)
        assert (resumed.from_step, resumed.lost_steps) == (0, 2)
        assert len(server.asked) == PROMPTS - HELD + 1
        assert job.results() == straight
