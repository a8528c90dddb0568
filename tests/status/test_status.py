"""What users are told."""

from __future__ import annotations

import pytest

from builders import NOW, a_job, a_progress, a_rollout, a_status, a_trainer, failed, seen
from rljob_api.job import RLJob
from rljob_api.progress import Resumed, TrainPhase
from rljob_api.status import CheckpointFacts, Condition, ConditionType, Exactness, Failure, Phase, Status
from rljob_operator import times
from rljob_operator.decide import Decision, Ended, Goal
from rljob_operator.observed import Observed, PodPhase
from rljob_operator.status import status

RUN = Decision(Goal.RUN, "FirstAttempt")


def told(observed: Observed, decision: Decision = RUN, job: RLJob | None = None, now: float = NOW) -> Status:
    return status(job or a_job(a_status()), observed, decision, now)


def condition(found: Status, kind: ConditionType) -> Condition:
    return next(one for one in found.conditions if one.type is kind)


def test_nothing_new_means_the_very_same_status_later() -> None:
    observed = seen(a_trainer(), a_rollout(), progress=a_progress())
    first = told(observed)
    beating = seen(a_trainer(), a_rollout(), progress=a_progress(heartbeat=NOW + 60))
    assert told(beating, job=a_job(first), now=NOW + 60) == first


def test_a_transition_time_moves_only_with_its_status() -> None:
    unready = told(seen(a_trainer(ready=False), a_rollout()))
    later = told(seen(a_trainer(ready=False)), job=a_job(unready), now=NOW + 60)
    ready = told(seen(a_trainer(), a_rollout()), job=a_job(later), now=NOW + 120)
    moved = [condition(one, ConditionType.PODS_READY).last_transition_time for one in (unready, later, ready)]
    assert moved == [times.to_text(NOW), times.to_text(NOW), times.to_text(NOW + 120)]
    assert condition(ready, ConditionType.ACCEPTED).last_transition_time == times.to_text(NOW)


@pytest.mark.parametrize(
    ("goal", "phase"),
    [
        (Goal.RESTART, Phase.RESTARTING),
        (Goal.SUSPEND, Phase.SUSPENDING),
        (Goal.SUSPENDED, Phase.SUSPENDED),
        (Goal.COMPLETE, Phase.COMPLETE),
        (Goal.FAIL, Phase.FAILED),
    ],
)
def test_the_phase_follows_the_decision(goal: Goal, phase: Phase) -> None:
    assert told(seen(a_trainer()), Decision(goal, "Because")).phase is phase


def test_a_job_trains_once_its_own_attempt_generates() -> None:
    loading = told(seen(a_trainer(), progress=a_progress(phase=TrainPhase.LOAD)))
    of_before = told(seen(a_trainer(attempt=2), progress=a_progress(attempt=1)), job=a_job(a_status(2)))
    training = told(seen(a_trainer(), progress=a_progress(phase=TrainPhase.GENERATE)))
    assert [loading.phase, of_before.phase, training.phase] == [
        Phase.STARTING,
        Phase.STARTING,
        Phase.TRAINING,
    ]


def test_nan_is_written_as_text() -> None:
    found = told(seen(a_trainer(), progress=a_progress(metrics={"kl": float("nan"), "reward": 0.5})))
    assert [(metric.name, metric.value) for metric in found.progress.metrics] == [
        ("kl", "nan"),
        ("reward", "0.5"),
    ]


def test_the_newest_five_failures_are_kept_and_none_twice() -> None:
    new = [Failure(role="trainer", rank=0, attempt=n, time=times.to_text(NOW + n)) for n in range(7)]
    now = Status()
    for one in [*new, new[-1]]:
        now = told(seen(), Decision(Goal.RESTART, "BackOff", failures=(one,)), a_job(now))
    assert now.failures == new[-5:]


@pytest.mark.parametrize(
    ("ended", "counts"),
    [(Ended.COUNTED, (1, 1, 0)), (Ended.IGNORED, (1, 0, 0)), (Ended.PREEMPTED, (1, 0, 1)), (None, (0, 0, 0))],
)
def test_restarts_are_counted_by_how_the_attempt_ended(ended: Ended | None, counts: tuple[int, ...]) -> None:
    found = told(seen(), Decision(Goal.RESTART, "Again", ended=ended))
    assert (found.restarts, found.restarts_count_towards_max, found.preemptions) == counts


def test_the_attempt_says_what_it_went_on_from() -> None:
    resumed = Resumed(from_step=380, lost_steps=0, exactness=Exactness.EXACT, reason="saved on notice")
    found = told(seen(a_trainer(), progress=a_progress(step=381, resumed=resumed)))
    assert found.attempt is not None
    assert (found.attempt.from_step, found.attempt.lost_steps) == (380, 0)
    exact = condition(found, ConditionType.RESUME_EXACT)
    assert (exact.status, exact.message) == ("True", "saved on notice")


def test_a_checkpoint_stays_known_while_the_next_attempt_has_not_looked() -> None:
    facts = CheckpointFacts(
        step=3,
        time=times.to_text(NOW),
        path="p",
        bytes=1,
        verified=True,
        has_rng=True,
        has_optimizer=True,
        layout="l",
    )
    first = told(seen(a_trainer(), progress=a_progress(checkpoint=facts, checkpoint_count=2)))
    later = told(seen(a_trainer()), job=a_job(first))
    assert later.checkpoint.latest == facts
    assert condition(later, ConditionType.CHECKPOINT_READY).status == "True"


def test_a_pod_that_cannot_start_says_why() -> None:
    waiting = a_rollout(phase=PodPhase.PENDING, ready=False, message="needs 4 GPUs, and 2 are free")
    assert told(seen(a_trainer(), waiting)).message == "demo-rollout-0-0 waits: needs 4 GPUs, and 2 are free"


def test_ended_pods_are_not_counted() -> None:
    found = told(seen(a_trainer(**failed()), a_rollout()))
    assert (found.trainer.replicas, found.trainer.ready, found.rollout.ready) == (0, "0/1", "1/1")


def test_the_control_token_is_told_to_nobody() -> None:
    assert "secret" not in told(seen(a_trainer(), progress=a_progress())).model_dump_json()
