"""What users are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import (
    NOW,
    a_checkpoint,
    a_job,
    a_progress,
    a_rollout,
    a_status,
    a_trainer,
    an_attempt,
    failed,
    last_words,
    seen,
)
from rljob_api.job import RLJob
from rljob_api.progress import Ending, Resumed, TrainPhase
from rljob_api.status import Condition, ConditionType, Exactness, Failure, Phase, Status
from rljob_cli.words import summary
from rljob_operator import times
from rljob_operator.decide import Decision, Ended, GivenBack, Goal
from rljob_operator.decide.verdict import failure, sentence
from rljob_operator.happenings import happenings
from rljob_operator.observed import Observed, PodPhase, Refusal, newest_progress
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


def test_a_new_operator_that_has_not_reached_rank_0_yet_takes_nothing_back() -> None:
    known = told(seen(a_trainer(attempt=2), progress=a_progress(step=7, attempt=2)), job=a_job(a_status(2)))
    assert known.phase is Phase.TRAINING
    later = told(seen(a_trainer(attempt=2)), job=a_job(known), now=NOW + 60)
    assert later == known


def test_words_of_an_attempt_before_are_out_of_date_once_the_current_one_has_told_of_itself() -> None:
    old = last_words(Ending.PREEMPTED, progress=a_progress(step=2))
    pods = (a_trainer(**failed(143, words=old)), a_trainer(attempt=2))
    begun, told_of = an_attempt(2), an_attempt(2, from_step=2)
    assert newest_progress((), pods, None) == newest_progress((), pods, begun) == old.progress
    assert newest_progress((), pods, told_of) is None
    new = a_progress(step=3, attempt=2)
    assert newest_progress((None, new), pods, told_of) == new


def test_a_job_converts_while_a_trainer_of_its_attempt_does_and_says_how_far() -> None:
    far = a_progress(phase=TrainPhase.CONVERT, detail="3.1 GB of 16.4 GB")
    waiting: dict[str, Any] = {"phase": PodPhase.PENDING, "ready": False}
    converting = told(seen(a_trainer(initializing="convert", **waiting), progress=far))
    assert (converting.phase, converting.progress.detail) == (Phase.CONVERTING, "3.1 GB of 16.4 GB")
    after = told(seen(a_trainer(), progress=far))
    assert (after.phase, after.progress.phase, after.progress.detail) == (Phase.STARTING, "", "")
    of_before = told(seen(a_trainer(initializing="convert", **waiting)), job=a_job(a_status(2)))
    assert of_before.phase is Phase.STARTING


def test_what_training_is_busy_with_is_no_news() -> None:
    busy = a_progress(phase=TrainPhase.GENERATE, detail="31 of 512 answers")
    assert told(seen(a_trainer(), progress=busy)).progress.detail == ""


TOO_FEW = "0 of 2 rollout servers are up, training needs rollout.minReplicas 1"


def test_while_rollout_servers_are_too_few_training_waits_and_says_so() -> None:
    waiting = a_progress(phase=TrainPhase.WAIT, detail=TOO_FEW)
    now = told(seen(a_trainer(), progress=waiting))
    assert (now.phase, now.progress.phase, now.progress.detail) == (Phase.TRAINING, "Wait", TOO_FEW)
    assert now.message == f"Training waits: {TOO_FEW}."
    assert summary("demo", now).count(TOO_FEW) == 1
    again = told(seen(a_trainer(), progress=a_progress(phase=TrainPhase.GENERATE)), job=a_job(now))
    assert (again.message, again.progress.detail) == ("", "")


@pytest.mark.parametrize(
    ("attempt", "decision"), [(1, Decision(Goal.RUN, "")), (2, Decision(Goal.RESTART, "GangStopping"))]
)
def test_what_an_attempt_waited_for_that_is_over_is_no_message(attempt: int, decision: Decision) -> None:
    waiting = a_progress(attempt=attempt, phase=TrainPhase.WAIT, detail=TOO_FEW)
    now = told(seen(a_trainer(attempt=2), progress=waiting), decision, a_job(a_status(2)))
    assert "Training waits" not in now.message


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


GPUS: dict[str, Any] = {"resume": {"exactness": "Exact"}, "trainer": {"numNodes": 2, "gpusPerNode": 1}}


def test_an_exactness_that_no_restart_can_reach_is_told_from_the_beginning() -> None:
    now = told(seen(a_trainer()), job=a_job(a_status(), **GPUS))
    exact = condition(now, ConditionType.RESUME_EXACT)
    assert (exact.status, exact.reason, exact.message) == ("False", "ExactnessUnreachable", now.message)
    assert "vLLM on GPUs does not repeat its samples bit for bit; exactness over several GPU" in exact.message
    assert exact.message.endswith("Set it to Lossless.")
    assert [one.reason for one in happenings(a_status(), now)].count("ExactnessUnreachable") == 1
    assert told(seen(a_trainer()), Decision(Goal.COMPLETE, "AllStepsRan"), a_job(now, **GPUS)).message == ""


@pytest.mark.parametrize("less", [GPUS | {"resume": {"exactness": "Lossless"}}, {"resume": GPUS["resume"]}])
def test_what_can_be_reached_is_unknown_until_the_first_restart(less: dict[str, Any]) -> None:
    now = told(seen(a_trainer()), job=a_job(a_status(), **less))
    assert (condition(now, ConditionType.RESUME_EXACT).status, now.message) == ("Unknown", "")


def test_a_checkpoint_stays_known_while_the_next_attempt_has_not_looked() -> None:
    facts = a_checkpoint(3)
    first = told(seen(a_trainer(), progress=a_progress(checkpoint=facts, checkpoint_count=2)))
    later = told(seen(a_trainer()), job=a_job(first))
    assert later.checkpoint.latest == facts
    assert condition(later, ConditionType.CHECKPOINT_READY).status == "True"


@pytest.mark.parametrize("phase", [TrainPhase.LOAD, TrainPhase.WAIT])
def test_an_attempt_that_waits_for_its_first_servers_has_not_lost_what_was_there(phase: TrainPhase) -> None:
    before = told(seen(a_trainer(), progress=a_progress(11, checkpoint=a_checkpoint(11), checkpoint_count=3)))
    restarted = a_job(before.model_copy(update={"attempt": an_attempt(2)}))
    now = told(seen(a_trainer(attempt=2), progress=a_progress(0, attempt=2, phase=phase)), job=restarted)
    assert now.attempt is not None
    assert (now.progress.step, now.attempt.from_step) == (11, None)
    assert (now.checkpoint.latest, now.checkpoint.count) == (a_checkpoint(11), 3)
    assert condition(now, ConditionType.CHECKPOINT_READY).status == "True"


def test_what_an_attempt_did_last_is_not_what_the_next_one_does() -> None:
    saving = a_progress(7, phase=TrainPhase.SAVE)
    first = told(seen(a_trainer(), progress=saving))
    again = told(seen(a_trainer(attempt=2), progress=saving), job=a_job(a_status(2)))
    assert (first.progress.phase, first.progress.step) == ("Save", 7)
    assert (again.progress.phase, again.progress.step) == ("", 7)


def test_a_checkpoint_that_was_passed_over_is_named() -> None:
    damage = "The checkpoint of step 2 is damaged: its file is missing."
    progress = a_progress(checkpoint=a_checkpoint(4), skipped_checkpoints=[damage])
    ready = condition(told(seen(a_trainer(), progress=progress)), ConditionType.CHECKPOINT_READY)
    assert (ready.status, ready.reason) == ("True", "CheckpointPassedOver")
    assert ready.message == f"The newest checkpoint is step 4. {damage}"


def test_a_job_whose_only_checkpoint_was_passed_over_has_none() -> None:
    first = told(seen(a_trainer(), progress=a_progress(checkpoint=a_checkpoint(2), checkpoint_count=1)))
    progress = a_progress(0, skipped_checkpoints=["The checkpoint of step 2 is damaged."])
    found = told(seen(a_trainer(), progress=progress), job=a_job(first))
    assert (found.checkpoint.latest, found.checkpoint.count) == (None, 0)
    ready = condition(found, ConditionType.CHECKPOINT_READY)
    assert (ready.status, ready.reason) == ("False", "CheckpointPassedOver")
    assert ready.message == "No checkpoint is left. The checkpoint of step 2 is damaged."


def test_a_save_that_failed_is_told_and_a_whole_one_ends_it() -> None:
    full, newest = "Saving a checkpoint failed: the volume at /v is full.", "The newest checkpoint is step 4."
    before, failing, after = (
        told(seen(a_trainer(), progress=a_progress(checkpoint=a_checkpoint(4), save_failure=failure)))
        for failure in ("", full, "")
    )
    ready = condition(failing, ConditionType.CHECKPOINT_READY)
    assert (ready.status, ready.reason, ready.message) == ("True", "SaveFailed", f"{newest} {full}")
    news = [(one.type, one.reason, one.note) for one in happenings(before, failing)]
    assert news == [("Warning", "SaveFailed", f"{newest} {full}")]
    assert condition(after, ConditionType.CHECKPOINT_READY).reason == "Whole"


def test_a_first_save_that_failed_is_told_too() -> None:
    found = told(seen(a_trainer(), progress=a_progress(save_failure="The volume is full.")))
    ready = condition(found, ConditionType.CHECKPOINT_READY)
    assert (ready.status, ready.reason) == ("False", "SaveFailed")
    assert ready.message == "No checkpoint was saved yet. The volume is full."


def test_what_rank_0_alone_knows_stays_told_while_a_new_operator_has_not_reached_it() -> None:
    resumed = Resumed(from_step=2, lost_steps=1, exactness=Exactness.BEST_EFFORT, reason="killed")
    checkpoint = a_checkpoint(2)
    facts: dict[str, Any] = {
        "checkpoint": checkpoint,
        "save_failure": "The volume is full.",
        "resumed": resumed,
    }
    known = told(seen(a_trainer(), progress=a_progress(**facts)))
    later = told(seen(a_trainer()), job=a_job(known), now=NOW + 60)
    assert later == known
    assert condition(later, ConditionType.RESUME_EXACT).message == "killed"
    saved = a_progress(step=4, resumed=resumed, checkpoint=a_checkpoint(4))
    after = told(seen(a_trainer(), progress=saved), job=a_job(later))
    assert condition(after, ConditionType.CHECKPOINT_READY).reason == "Whole"


def test_steps_and_their_total_are_those_of_the_attempt_that_runs_whoever_tells() -> None:
    known = told(seen(a_trainer(), progress=a_progress(step=3, total_steps=10)))
    job = a_job(known, algorithm={"grpo": {"maxSteps": 20}})
    edited = job.model_copy(update={"metadata": job.metadata.model_copy(update={"generation": 2})})
    running = told(seen(a_trainer()), job=edited).progress
    assert (running.total_steps, running.display) == (10, "3/10")
    begins = told(seen(), Decision(Goal.RUN, "Resumed", begin=an_attempt(2, generation=2)), edited)
    begun = edited.model_copy(update={"status": begins})
    assert told(seen(a_trainer(attempt=2)), job=begun).progress.display == "3/20"


@pytest.mark.parametrize("goal", [Goal.RESTART, Goal.SUSPENDED, Goal.FAIL, Goal.WAIT])
def test_nothing_is_said_to_go_on_once_no_trainer_runs(goal: Goal) -> None:
    busy = a_progress(phase=TrainPhase.TRAIN, estimated_remaining_seconds=3600.0)
    going = told(seen(a_trainer(terminating=True), progress=busy), Decision(goal, "Because"))
    assert (going.progress.phase, going.progress.estimated_remaining_seconds) == ("Train", 3600)
    words = last_words(Ending.FAILED, progress=busy)
    for observed in (seen(a_trainer(**failed(1, words=words)), progress=busy), seen()):
        gone = told(observed, Decision(goal, "Because"), a_job(going)).progress
        assert (gone.phase, gone.estimated_remaining_seconds, gone.display) == ("", None, "3/10")


def test_a_newest_checkpoint_that_is_damaged_is_not_ready() -> None:
    found = told(
        seen(a_trainer(), progress=a_progress(checkpoint=a_checkpoint(4, verified=False, damaged=True)))
    )
    assert condition(found, ConditionType.CHECKPOINT_READY).status == "False"


def test_that_a_new_checkpoint_is_not_read_back_yet_is_no_news() -> None:
    written, read = (a_progress(step=4, checkpoint=a_checkpoint(4, verified=each)) for each in (False, True))
    before = told(seen(a_trainer(), progress=written))
    after = told(seen(a_trainer(), progress=read), job=a_job(before))
    facts = [one.checkpoint.latest.verified for one in (before, after) if one.checkpoint.latest]
    ready = [condition(one, ConditionType.CHECKPOINT_READY) for one in (before, after)]
    assert facts == [False, True]
    assert [(one.status, one.reason) for one in ready] == [("True", "Whole")] * 2
    assert not list(happenings(before, after))


def test_a_job_that_is_to_fail_has_failed_once_its_last_trainer_ended() -> None:
    failing = Decision(Goal.FAIL, "Mistake", "no such model")
    stopping = told(seen(a_trainer(0, terminating=True)), failing)
    ended = told(seen(a_trainer(0, **failed(143))), failing, a_job(stopping), NOW + 60)
    kinds = (ConditionType.FAILURE_TARGET, ConditionType.FAILED)
    assert [condition(stopping, kind).status for kind in kinds] == ["True", "False"]
    assert [condition(ended, kind).status for kind in kinds] == ["True", "True"]
    assert (stopping.completion_time, ended.completion_time) == ("", times.to_text(NOW + 60))
    assert condition(ended, ConditionType.FAILED).message == "no such model"


def test_a_job_whose_steps_all_ran_is_complete_once_its_last_trainer_ended() -> None:
    """As in batch/v1: one of an earlier attempt may still be on its way out."""
    all_ran = Decision(Goal.COMPLETE, "AllStepsRan")
    stopping = told(seen(a_trainer(0, terminating=True)), all_ran)
    ended = told(seen(), all_ran, a_job(stopping), NOW + 60)
    kinds = (ConditionType.SUCCESS_CRITERIA_MET, ConditionType.COMPLETE)
    assert [condition(stopping, kind).status for kind in kinds] == ["True", "False"]
    assert [condition(ended, kind).status for kind in kinds] == ["True", "True"]
    assert [one.note for one in happenings(stopping, ended)] == ["All steps ran."]


def test_a_job_that_is_over_waits_for_no_pods_however_it_is_scaled() -> None:
    scaled = a_job(told(seen(a_trainer(**failed()))), rollout={"replicas": 3})
    over = told(seen(), Decision(Goal.COMPLETE, "AllStepsRan"), scaled)
    assert (over.trainer.ready, over.rollout.ready) == ("0/0", "0/0")
    assert condition(over, ConditionType.PODS_READY).message == "The job is over, and needs no pods."


def begun(reason: str) -> Decision:
    return Decision(Goal.RUN, reason, begin=an_attempt(2, reason=reason))


@pytest.mark.parametrize(("reason", "restarted"), [("Resumed", True), ("PodFailed", False)])
def test_the_clocks_of_deadlines_start_anew_on_a_resume_and_not_on_a_restart(
    reason: str, restarted: bool
) -> None:
    first = told(seen(a_trainer(), progress=a_progress()))
    assert (first.start_time, first.running_time) == ("", times.to_text(NOW))
    later = told(seen(), begun(reason), a_job(first), NOW + 60)
    assert later.start_time == (times.to_text(NOW + 60) if restarted else "")
    assert later.running_time == ("" if restarted else times.to_text(NOW))


def test_what_was_given_back_is_remembered_with_its_reason() -> None:
    back = Decision(Goal.WAIT, "QuotaExceeded", "no room", give_back=GivenBack("QuotaExceeded", "then"))
    found = told(seen(), back)
    assert found.attempt is not None
    assert (found.attempt.given_back_reason, found.attempt.given_back_time) == ("QuotaExceeded", "then")
    assert (found.phase, found.message) == (Phase.PENDING, "no room")


@pytest.mark.parametrize(
    ("message", "accepted", "ready"),
    [
        ("exceeded quota: q", "Valid", "QuotaExceeded"),
        ("no PriorityClass with name x was found", "PriorityClassMissing", "PriorityClassMissing"),
    ],
    ids=["what passes", "what somebody must put right"],
)
def test_a_refusal_is_a_condition(message: str, accepted: str, ready: str) -> None:
    refusal = Refusal("Pod", "demo-trainer-0-1", 403, "Forbidden", message, NOW)
    found = told(replace(seen(), refusal=refusal))
    assert condition(found, ConditionType.ACCEPTED).reason == accepted
    assert condition(found, ConditionType.PODS_READY).reason == ready
    assert message in found.message


def test_a_refused_claim_is_for_somebody_to_put_right_even_for_want_of_quota() -> None:
    refusal = Refusal("PersistentVolumeClaim", "demo", 403, "Forbidden", "exceeded quota: q", NOW)
    found = told(replace(seen(a_trainer(), a_rollout()), refusal=refusal))
    accepted = condition(found, ConditionType.ACCEPTED)
    assert (accepted.status, accepted.reason) == ("False", "QuotaExceeded")
    assert condition(found, ConditionType.PODS_READY).status == "True"


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("QuotaExceeded", "the quota had no room"),
        ("Unschedulable", "no node had room"),
        ("ExactnessUnmet", "it could not go on as exactly as asked"),
    ],
)
def test_that_all_pods_were_given_back_is_an_event(reason: str, why: str) -> None:
    before = told(seen(a_trainer(**WAITS)))
    back = GivenBack(reason, times.to_text(NOW))
    after = told(seen(), Decision(Goal.WAIT, reason, "all given back", give_back=back), a_job(before))
    news = [(one.type, one.reason, one.note) for one in happenings(before, after)]
    assert ("Warning", reason, "all given back") in news
    again = Decision(Goal.RUN, reason, begin=an_attempt(2, reason=reason))
    begins = told(seen(), again, a_job(after))
    (started,) = happenings(after, begins)
    assert (started.reason, started.note) == ("AttemptStarted", f"Attempt 2 starts: {why}.")


@pytest.mark.parametrize("reason", ["Stalled", "VolumeUnusable"])
def test_an_attempt_that_runs_is_no_event_for_what_ended_the_one_before(reason: str) -> None:
    paused = told(seen(), Decision(Goal.RESTART, reason, "it hung"))
    runs = told(seen(a_trainer(attempt=2)), Decision(Goal.RUN, reason), a_job(paused))
    assert [one.reason for one in happenings(paused, runs)] == []
    assert [one.reason for one in happenings(told(seen()), paused)] == [reason]


WAITS: dict[str, Any] = {"phase": PodPhase.PENDING, "ready": False, "message": "no room"}


@pytest.mark.parametrize("goal", [Goal.COMPLETE, Goal.FAIL, Goal.SUSPENDED])
def test_what_a_server_waits_for_is_in_nobodys_way_once_it_is_not_needed(goal: Goal) -> None:
    found = told(seen(a_rollout(**WAITS)), Decision(goal, "AllStepsRan"))
    assert (found.message, condition(found, ConditionType.PODS_READY).reason) == ("", "SomeNotReady")
    assert told(seen(a_rollout(**WAITS))).message != ""


def test_what_pods_were_given_back_for_is_told_until_the_next_try_whoever_tells() -> None:
    """Also by an operator that did not see the refusal itself, and that has a silent node to tell of first."""
    reason = "PriorityClassMissing"
    back = GivenBack(reason, times.to_text(NOW))
    first = told(seen(), Decision(Goal.WAIT, reason, "no class", give_back=back))
    silent = told(seen(), Decision(Goal.WAIT, "NodeLost", "node n is silent"), a_job(first))
    begins = told(seen(), Decision(Goal.RUN, reason, begin=an_attempt(2, reason=reason)), a_job(first))
    for one in (first, silent, begins):
        kinds = (ConditionType.ACCEPTED, ConditionType.PODS_READY)
        assert [(found.status, found.reason) for found in (condition(one, kind) for kind in kinds)] == [
            ("False", reason),
            ("False", reason),
        ]
    assert [one.message for one in (first, silent, begins)] == ["no class", "node n is silent", "no class"]
    tried = told(seen(a_trainer(attempt=2)), Decision(Goal.RUN, reason), a_job(begins))
    assert (tried.message, condition(tried, ConditionType.ACCEPTED).status) == ("", "True")


def test_all_conditions_carry_the_generation_that_was_seen() -> None:
    job = a_job(told(seen(a_trainer())))
    edited = job.model_copy(update={"metadata": job.metadata.model_copy(update={"generation": 7})})
    assert {one.observed_generation for one in told(seen(a_trainer()), job=edited).conditions} == {7}


def test_a_failure_is_told_by_role_rank_exit_code_and_last_line() -> None:
    job = a_job(trainer={"numNodes": 2, "numProcPerNode": 8})
    words = last_words(Ending.FAILED, rank=9, message="CUDA out of memory")
    assert sentence(job, a_trainer(1, **failed(1, words=words))) == (
        "trainer 9 ended with exit code 1: CUDA out of memory"
    )
    log = failed(1) | {"message": "Traceback\n  File x\nValueError: no\n\n"}
    assert sentence(job, a_rollout(2, **log)) == "rollout 2 ended with exit code 1: ValueError: no"
    assert sentence(job, a_rollout(**failed(137) | {"reason": "OOMKilled"})) == (
        "rollout 0 ended with exit code 137: OOMKilled"
    )
    assert sentence(job, a_rollout(**failed(137) | {"reason": "Error"})) == (
        "rollout 0 ended with exit code 137: it was ended by SIGKILL; the kernel does that when memory runs out"
    )


def test_a_server_failed_in_the_attempt_that_runs_whenever_it_started() -> None:
    warm, old = a_rollout(attempt=1, **failed()), a_trainer(attempt=1, **failed())
    job = a_job(a_status(2))
    assert [failure(job, pod, NOW).attempt for pod in (warm, old)] == [2, 1]


@pytest.mark.parametrize(
    ("trainer", "init", "told", "rank", "node"),
    [
        ({"numNodes": 2}, "", "trainer 1 ended", 1, None),
        ({"numNodes": 2, "gpusPerNode": 8}, "", "trainer node 1, ranks 8 to 15, ended", 8, 1),
        (
            {"numNodes": 2, "numProcPerNode": 4},
            "convert",
            "trainer node 1, ranks 4 to 7, container convert, ended",
            4,
            1,
        ),
    ],
)
def test_a_pod_that_left_no_word_is_named_by_its_node_and_all_its_ranks(
    trainer: dict[str, int], init: str, told: str, rank: int, node: int | None
) -> None:
    job = a_job(trainer=trainer)
    pod = a_trainer(1, **failed(137) | {"reason": "OOMKilled", "ended_in": init})
    assert sentence(job, pod) == f"{told} with exit code 137: OOMKilled"
    listed = failure(job, pod, NOW)
    assert (listed.rank, listed.node) == (rank, node)
    assert told.startswith(listed.who)


def test_a_pod_that_cannot_start_says_why() -> None:
    waiting = a_rollout(phase=PodPhase.PENDING, ready=False, message="needs 4 GPUs, and 2 are free")
    assert told(seen(a_trainer(), waiting)).message == "demo-rollout-0-0 waits: needs 4 GPUs, and 2 are free"


def test_servers_that_were_told_to_go_or_ended_are_present_no_more() -> None:
    here, surplus, going, dead = (
        a_rollout(0),
        a_rollout(1),
        a_rollout(2, terminating=True),
        a_rollout(3, **failed()),
    )
    found = told(seen(here, surplus, going, dead), replace(RUN, delete=(surplus,)))
    assert found.rollout.present == [0]


def test_ended_pods_are_not_counted() -> None:
    found = told(seen(a_trainer(**failed()), a_rollout()))
    assert (found.trainer.replicas, found.trainer.ready, found.rollout.ready) == (0, "0/1", "1/1")


def test_the_control_token_is_told_to_nobody() -> None:
    assert "secret" not in told(seen(a_trainer(), progress=a_progress())).model_dump_json()
