"""How often ranks 0 are asked, and what of their answers is worth a pass over the job."""

from __future__ import annotations

import asyncio
import time

from builders import a_progress
from rljob_api.progress import BrokenReplica, Resumed, TrainPhase
from rljob_api.status import Exactness
from rljob_operator.cluster.polling import POLLS_PER_SECOND, Answers, Leader, News, Polling

NOBODY = "127.0.0.1"
"""No rank 0 serves there."""

JOB = ("default", "demo")


def news(**facts: object) -> News:
    """What is new in an answer with these facts, after one in the middle of a step."""
    answers = Answers()
    assert answers.put(JOB, "uid", a_progress(step=3, phase=TrainPhase.TRAIN)) is News.TURN
    return answers.put(JOB, "uid", a_progress(**{"step": 3, "phase": TrainPhase.TRAIN, **facts}))  # type: ignore[arg-type]


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


async def rounds(jobs: int) -> list[float]:
    """When each of the first two rounds over so many jobs began."""
    began: list[float] = []
    second = asyncio.Event()

    def leaders() -> list[Leader]:
        began.append(time.monotonic())
        if len(began) > 1:
            second.set()
        return [(("default", f"job-{number}"), f"uid-{number}", NOBODY) for number in range(jobs)]

    polling = asyncio.create_task(Polling(Answers(), leaders, lambda *_: None, 0.01).run())
    await second.wait()
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    return began


def test_of_more_jobs_each_is_asked_less_often() -> None:
    first, second = asyncio.run(rounds(100))
    assert second - first >= 100 / POLLS_PER_SECOND
