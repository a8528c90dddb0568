"""What of rank 0's answers is worth a pass over the job."""

from __future__ import annotations

from builders import a_progress
from rljob_api.progress import BrokenReplica, Resumed, TrainPhase
from rljob_api.status import Exactness
from rljob_operator.cluster.polling import Answers, News


def news(**facts: object) -> News:
    """What is new in an answer with these facts, after one in the middle of a step."""
    answers = Answers()
    assert answers.put("uid", a_progress(step=3, phase=TrainPhase.TRAIN)) is News.TURN
    return answers.put("uid", a_progress(**{"step": 3, "phase": TrainPhase.TRAIN, **facts}))  # type: ignore[arg-type]


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
    answers.put("gone", a_progress())
    answers.keep({"there"})
    assert answers.get("gone") is None
