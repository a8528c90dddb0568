"""What a user sees when something is wrong: a sentence, the right exit code, and the last good checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import ONE_SERVER
from e2e.local_job import LocalJob, addition
from rljob_api.status import Phase

pytestmark = pytest.mark.timeout(2400)

Start = Callable[..., LocalJob]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a job of one rank and one server with these changes to its spec."""
    started: list[LocalJob] = []

    def begin(**changes: Any) -> LocalJob:
        small = {"trainer": {"numProcPerNode": 1}, "rollout": ONE_SERVER}
        job = LocalJob(addition(4, **(small | changes)), tmp_path / str(len(started)))
        started.append(job)
        return job.start()

    yield begin
    for job in started:
        job.kill()


def test_a_reward_that_raises_ends_the_job_at_once_and_shows_the_sample(start: Start, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "broken_reward.py").write_text(
        "def score(prompt, completion, answer, item):\n    raise KeyError('no such thing')\n"
    )
    job = start(reward={"python": {"module": "broken_reward", "function": "score"}})
    assert job.finish() == 1
    words = job.log.read_text()
    assert "the reward raised KeyError: 'no such thing'" in words
    assert "completion:" in words
    assert 'broken_reward.py", line 2, in score' in words
    assert words.count("File ") == 1, "a line of ours, where the user's own is the one to look at"
    status = job.status()
    assert status is not None
    assert status.phase is Phase.FAILED
    assert status.restarts == 0, "a restart would not have helped"


def test_a_server_that_dies_at_start_is_quoted(start: Start) -> None:
    policy = {"maxRestarts": 0}
    rollout = {"replicas": 1, "vllm": {"maxModelLen": 64, "extraArgs": ["--no-such-argument"]}}
    job = start(rollout=rollout, failurePolicy=policy)
    assert job.finish() == 1
    words = job.log.read_text()
    assert "unrecognized arguments: --no-such-argument" in words
    assert "^ the end of " in words


def test_a_model_that_is_not_there_is_told_before_anything_starts(start: Start) -> None:
    job = start(model={"source": "./no-such-model"})
    assert job.finish() == 2
    words = job.log.read_text()
    assert "spec.model.source" in words
    assert "no-such-model" in words
    assert "Traceback" not in words
    assert not (job.work_dir / "logs").exists() or not list((job.work_dir / "logs").iterdir())


def test_a_dataset_without_the_column_is_told_with_the_columns_it_has(start: Start, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "sums.jsonl").write_text('{"problem": "1+1=", "answer": "2"}\n')
    job = start(data={"train": {"source": "./sums.jsonl"}})
    assert job.finish() == 1
    words = job.log.read_text()
    assert "promptKey" in words
    assert "'problem'" in words
    assert "Traceback" not in words
