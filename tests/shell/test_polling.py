"""How often ranks 0 are asked, what of their answers is worth a pass over the job, and how often one a write."""

from __future__ import annotations

import asyncio

import pytest

from builders import NOW, a_progress
from rljob_api.progress import BrokenReplica, Resumed, TrainPhase
from rljob_api.status import Exactness
from rljob_operator.cluster.polling import POLLS_PER_SECOND, Answers, Leader, News, Polling
from rljob_operator.cluster.throttle import ProgressThrottle

from . import virtual_time

NOBODY = "127.0.0.1"
"""No rank 0 serves there."""

JOB = ("default", "demo")


def news(**facts: object) -> News:
    """What is new in an answer with these facts, after one in the middle of a step."""
    answers = Answers()
    assert answers.put(JOB, "uid", a_progress(step=3, phase=TrainPhase.TRAIN)) is News.TURN
    then = {"step": 3, "phase": TrainPhase.TRAIN, **facts}
    return answers.put(JOB, "uid", a_progress(**then))  # type: ignore[arg-type]  # the callers name fields


def test_a_sign_of_life_is_no_news() -> None:
    assert news(heartbeat=1e10) is News.NONE


def test_a_finished_step_can_wait() -> None:
    assert news(step=4) is News.ADVANCE
    assert news(phase=TrainPhase.GENERATE) is News.ADVANCE
    assert news(metrics={"reward": 1.0}) is News.ADVANCE


def test_what_must_be_told_or_acted_on_cannot() -> None:
    assert news(attempt=2) is News.TURN
    assert news(phase=TrainPhase.DONE) is News.TURN
    assert news(broken_replicas=[BrokenReplica(index=0, since="now", reason="hangs")]) is News.TURN
    resumed = Resumed(from_step=3, exactness=Exactness.EXACT, reason="all there")
    assert news(resumed=resumed) is News.TURN


def test_a_job_that_is_gone_is_forgotten() -> None:
    answers = Answers()
    answers.put(JOB, "gone", a_progress())
    assert answers.get(JOB, "gone") == a_progress()
    assert answers.get(JOB, "namesake") is None
    answers.forget(JOB)
    assert answers.get(JOB, "gone") is None


PERIOD_SECONDS = 0.01


async def round_seconds(jobs: int) -> float:
    """From the first question of a round over so many jobs to the next."""
    began: list[float] = []
    second = asyncio.Event()

    def leaders() -> list[Leader]:
        began.append(virtual_time.CLOCK.monotonic())
        if len(began) > 1:
            second.set()
        return [(("default", f"job-{number}"), f"uid-{number}", NOBODY) for number in range(jobs)]

    polling = asyncio.create_task(Polling(Answers(), leaders, lambda *_: None, PERIOD_SECONDS).run())
    await second.wait()
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    return began[1] - began[0]


def test_of_more_jobs_each_is_asked_less_often() -> None:
    assert virtual_time.run(round_seconds(1)) == pytest.approx(PERIOD_SECONDS)
    assert virtual_time.run(round_seconds(100)) == pytest.approx(100 / POLLS_PER_SECOND)


def test_progress_of_a_job_is_written_now_and_then_and_that_of_all_at_a_bounded_rate() -> None:
    throttle, other = ProgressThrottle(period_seconds=30, writes_per_second=20), ("default", "other")
    assert throttle.due(JOB, NOW) <= NOW
    throttle.wrote(JOB, NOW)
    assert (throttle.due(JOB, NOW), throttle.due(other, NOW)) == (NOW + 30, NOW + 1 / 20)
    throttle.wrote(other, NOW)
    throttle.forget(JOB)
    assert throttle.due(JOB, NOW) == NOW + 1 / 20 + 1 / 20, "as one that was never written"
    assert throttle.due(JOB, NOW + 1) <= NOW + 1, "the rate has room again"
