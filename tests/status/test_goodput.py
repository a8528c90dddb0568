"""What a job's time went into: every second once, nothing negative, whatever happened and whenever it was looked at."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from builders import (
    NOW,
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
from rljob_api.goodput import Goodput, Seconds, Use
from rljob_api.job import RLJob
from rljob_api.progress import EXIT_STALLED, Ending, Hang, TrainPhase, use_of
from rljob_api.status import Phase, ProgressStatus, Status
from rljob_cli.panel import goodput_line, gpu_line
from rljob_operator.decide import decide
from rljob_operator.goodput import Hung, Seen, account, as_of, not_counted, shares
from rljob_operator.job_metrics import JobMetrics
from rljob_operator.jobs import Jobs
from rljob_operator.observed import Observed, PodPhase
from rljob_operator.status import status

RUNNING = Seen(Use.PRODUCTIVE, gpus=8, attempt=1)
NOT_YET = Seen(Use.RESTARTING, gpus=0, attempt=1)


@dataclass
class Clock:
    """A job's account as time passes."""

    now: float = NOW
    goodput: Goodput | None = None

    def look(self, seen: Seen, after: float = 0.0) -> Seconds:
        self.now += after
        self.goodput = account(self.goodput, seen, self.now)
        return self.wall

    @property
    def wall(self) -> Seconds:
        assert self.goodput is not None
        assert self.goodput.account is not None
        return self.goodput.account.wall


def told(**seconds: float) -> Seen:
    return replace(RUNNING, told=Seconds(**seconds))


def test_what_the_trainer_tells_is_believed_and_the_rest_is_what_went_on() -> None:
    clock = Clock()
    clock.look(NOT_YET)
    clock.look(told(restarting=10, productive=0), after=60)
    assert clock.wall.restarting == 60, "50 s before the trainer could tell, 10 s of its own"
    clock.look(told(restarting=10, productive=70, saving=20, syncing=5, in_hand=5), after=100)
    assert (clock.wall.productive, clock.wall.saving, clock.wall.syncing) == (70, 20, 5)
    assert clock.goodput is not None
    assert clock.goodput.percent == "46.9"
    assert clock.goodput.gpu_percent == "75.0", "no GPU was held in the first minute"


def test_a_step_that_is_lost_was_not_productive() -> None:
    clock = Clock()
    clock.look(RUNNING)
    clock.look(told(productive=50, in_hand=30), after=80)
    clock.look(replace(told(productive=50, in_hand=30), doing=Use.RESTARTING, ended=True), after=1)
    assert (clock.wall.productive, clock.wall.recomputing, clock.wall.in_hand) == (50, 31, 0)


def test_what_was_lost_with_an_attempt_counts_once_its_groups_were_used() -> None:
    clock = Clock()
    clock.look(RUNNING)
    clock.look(replace(told(in_hand=80), doing=Use.RESTARTING, ended=True), after=80)
    assert (clock.wall.productive, clock.wall.recomputing) == (0, 80)
    second = replace(RUNNING, attempt=2)
    clock.look(replace(second, told=Seconds(in_hand=10)), after=10)
    assert clock.wall.regained == 0, "the step is not finished, and may be lost again"
    clock.look(replace(second, told=Seconds(productive=20, regained=60)), after=10)
    clock.look(replace(second, told=Seconds(productive=30, regained=60)), after=10)
    assert (clock.wall.productive, clock.wall.recomputing) == (30 + 60, 20)
    assert clock.wall.total == 110
    assert clock.goodput is not None
    assert clock.goodput.gpu_percent == clock.goodput.percent == "81.8"


def test_no_more_is_regained_than_was_lost() -> None:
    clock = Clock()
    clock.look(RUNNING)
    clock.look(told(productive=10, regained=60), after=10)
    assert (clock.wall.productive, clock.wall.recomputing, clock.wall.total) == (10, 0, 10)


def test_steps_that_are_done_again_are_told_by_the_trainer() -> None:
    clock = Clock()
    clock.look(RUNNING)
    clock.look(told(recomputing=40, productive=60), after=100)
    assert (clock.wall.recomputing, clock.wall.productive) == (40, 60)


@pytest.mark.parametrize(("use", "name"), [(Use.PRODUCTIVE, "in_hand"), (Use.SAVING, "saving")])
def test_a_hang_is_stalled_time_wherever_it_had_been_counted(use: Use, name: str) -> None:
    clock = Clock()
    clock.look(replace(RUNNING, doing=use))
    hanging = told(**{name: 30.0})
    clock.look(replace(hanging, doing=use), after=30)
    end = replace(hanging, doing=Use.RESTARTING, ended=True, hung=Hung(70, use))
    clock.look(end, after=50)
    assert clock.wall.stalled == 70
    clock.look(end, after=10)
    assert clock.wall.stalled == 70, "once"
    assert clock.wall.total == 90


def test_a_job_that_stands_still_spends_no_time() -> None:
    clock = Clock()
    clock.look(RUNNING)
    clock.look(Seen(None, gpus=0, attempt=1), after=10)
    clock.look(replace(NOT_YET, attempt=2), after=10_000)
    clock.look(replace(RUNNING, attempt=2), after=5)
    assert (clock.wall.total, clock.wall.restarting) == (15, 5)


def test_while_nobody_looks_after_a_job_no_time_is_counted() -> None:
    clock = Clock()
    clock.look(RUNNING)
    clock.look(RUNNING, after=10)
    assert clock.goodput is not None
    clock.goodput = not_counted(clock.goodput)
    clock.look(replace(NOT_YET, attempt=2), after=10_000)
    clock.look(replace(RUNNING, attempt=2), after=5)
    assert (clock.wall.total, clock.wall.restarting) == (15, 5)


def test_who_looks_at_a_job_that_waits_is_told_of_the_time_since_its_status_was_written() -> None:
    clock = Clock()
    clock.look(NOT_YET)
    clock.look(Seen(Use.WAITING, gpus=0, attempt=1), after=1)
    assert clock.goodput is not None
    assert (
        goodput_line(Status(goodput=clock.goodput), clock.now + 99) == "0.0 %; waiting 99.0, restarting 1.0"
    )
    clock.look(RUNNING, after=100)
    assert as_of(clock.goodput, clock.now + 99) == clock.goodput, "what training did the trainer tells"


def test_an_operator_that_was_away_finds_in_the_status_what_it_needs() -> None:
    clock = Clock()
    clock.look(RUNNING)
    clock.look(told(productive=10), after=10)
    assert clock.goodput is not None
    clock.goodput = Goodput.model_validate_json(clock.goodput.model_dump_json(by_alias=True))
    clock.look(told(productive=3010, saving=600), after=3600)
    assert (clock.wall.productive, clock.wall.saving, clock.wall.total) == (3010, 600, 3610)


@dataclass
class Trainer:
    """Tells of its attempt as the real one does, and may be looked at late or not at all."""

    draw: random.Random
    spent: Seconds = field(default_factory=Seconds)

    def works(self, seconds: float) -> None:
        name = self.draw.choice(["saving", "syncing", "restarting", "waiting", "in_hand", "in_hand"])
        self._add(name, seconds)
        if self.draw.random() < 0.3:
            hand = self.spent.in_hand
            self._add("in_hand", -hand)
            self._add(self.draw.choice(["productive", "recomputing"]), hand)
            self._add("regained", self.draw.choice([0.0, seconds]))

    def _add(self, name: str, seconds: float) -> None:
        self.spent = self.spent.model_copy(update={name: getattr(self.spent, name) + seconds})


@pytest.mark.parametrize("seed", range(60))
def test_under_any_schedule_all_time_is_counted_once_and_shares_add_up(seed: int) -> None:
    draw = random.Random(seed)
    clock, trainer, attempt, counted, doing = Clock(), Trainer(draw), 1, 0.0, None
    for _ in range(80):
        passed = draw.choice([0.0, 0.001, 1.0, 30.0, 1e5]) * draw.random()
        counted += passed if doing else 0.0
        trainer.works(passed * draw.choice([0.5, 1.0, 1.0, 1.2]))
        doing = draw.choice([None, *Use])
        ended = draw.random() < 0.1
        hung = (
            Hung(draw.choice([0.0, 5.0, 1e6]), use_of(draw.choice(list(TrainPhase))))
            if draw.random() < 0.5
            else None
        )
        said = trainer.spent if draw.random() < 0.7 else None
        clock.look(Seen(doing, draw.randrange(9), attempt, said, ended, hung), passed)
        check(clock, counted)
        if ended and draw.random() < 0.7:
            attempt, trainer = attempt + 1, Trainer(draw)


def check(clock: Clock, counted: float) -> None:
    assert clock.goodput is not None
    spent = [clock.wall] + ([clock.goodput.account.gpu] if clock.goodput.account else [])
    assert all(seconds >= -1e-6 for each in spent for seconds in each.by_use.values())
    assert clock.wall.in_hand >= -1e-6
    assert clock.wall.total == pytest.approx(counted, rel=1e-6, abs=0.1), "milliseconds are rounded"
    for each in (clock.goodput.shares, clock.goodput.gpu_shares):
        texts = list(each.model_dump().values()) if each else []
        if any(float(text) for text in texts):
            assert sum(round(10 * float(text)) for text in texts) == 1000
            assert all(float(text) >= 0 for text in texts)


def test_shares_are_rounded_so_that_they_add_up() -> None:
    third = shares(Seconds(productive=1, saving=1, syncing=1))
    assert sorted([third.productive, third.saving, third.syncing]) == ["33.3", "33.3", "33.4"]


def test_a_status_that_says_nothing_new_is_not_written_for_the_time_that_passed() -> None:
    observed = seen(a_trainer(), a_rollout(), progress=a_progress(spent=Seconds(in_hand=1)))
    first = told_at(a_status(), observed, 0)
    assert told_at(first, observed, 0) == first
    beating = replace(observed, progress=a_progress(heartbeat=NOW + 3600, spent=Seconds(in_hand=1)))
    assert told_at(first, beating, 3600) == first
    further = told_at(first, replace(observed, progress=a_progress(4, spent=Seconds(productive=3000))), 3600)
    assert further.goodput is not None
    assert further.goodput.percent == "100.0"


def test_an_operator_that_has_not_reached_rank_0_yet_takes_training_for_training() -> None:
    trains = seen(a_trainer(), a_rollout(), progress=a_progress(spent=Seconds(in_hand=1)))
    known = told_at(a_status(), trains, 0)
    for after, ready in ((1, False), (600, True)):  # something else is new meanwhile
        known = told_at(known, seen(a_trainer(), a_rollout(ready=ready)), after)
    assert known.goodput is not None
    assert known.goodput.shares.restarting == "0.0"


def told_at(before: Status, observed: Observed, after: float, **spec: Any) -> Status:
    job: RLJob = a_job(before, **spec)
    return status(job, observed, decide(job, observed, NOW + after), NOW + after)


def test_people_are_told_the_share_that_counts_and_where_the_rest_went() -> None:
    spent = Goodput(percent="90.0", shares=shares(Seconds(productive=90, saving=3, restarting=7)))
    assert goodput_line(Status(goodput=spent), NOW) == "90.0 %; restarting 7.0, saving 3.0"
    assert gpu_line(Status(goodput=spent), NOW) == ""
    assert gpu_line(Status(goodput=SPENT), NOW) == "70.0 %; waiting 20.0, saving 10.0"
    assert goodput_line(Status(), NOW) == gpu_line(Status(), NOW) == ""


SPENT = Goodput(
    percent="90.0",
    shares=shares(Seconds(productive=90, saving=10)),
    gpu_percent="70.0",
    gpu_shares=shares(Seconds(productive=70, saving=10, waiting=20)),
)


@pytest.mark.parametrize(
    ("spent", "metric", "expected"),
    [
        (SPENT, "rljob_job_time_share", {"productive": 0.9, "saving": 0.1, "waiting": 0.0}),
        (SPENT, "rljob_job_gpu_time_share", {"productive": 0.7, "saving": 0.1, "waiting": 0.2}),
        (Goodput(percent="100.0"), "rljob_job_gpu_time_share", {}),
    ],
)
def test_prometheus_is_told_shares_that_add_up(
    spent: Goodput, metric: str, expected: dict[str, float]
) -> None:
    jobs = Jobs(lambda key: None)
    status = Status(goodput=spent)
    metadata = {"name": "demo", "namespace": "team", "uid": "1", "resourceVersion": "7"}
    jobs.put({"metadata": metadata, "status": status.model_dump(by_alias=True, mode="json")})
    found = next(one for one in JobMetrics(lambda: jobs).collect() if one.name == metric)
    told = {sample.labels["use"]: sample.value for sample in found.samples}
    assert {use: told[use] for use in expected} == expected
    assert sum(told.values()) == (pytest.approx(1) if expected else 0)


def test_a_hang_of_a_job_shows_as_stalled_time() -> None:
    progress = a_progress(spent=Seconds(productive=60, in_hand=40))
    known = a_status().model_copy(
        update={"attempt": an_attempt(from_step=0), "progress": ProgressStatus(step=2)}
    )
    running = told_at(
        told_at(known, seen(a_trainer(), a_rollout()), 0),
        seen(a_trainer(), a_rollout(), progress=progress),
        100,
    )
    hang = Hang(phase=TrainPhase.REWARD, step=3, seconds=35, rank=0)
    words = last_words(Ending.STALLED, message="hung", hang=hang)
    ended = seen(a_trainer(**failed(EXIT_STALLED, words=words)), a_rollout(), progress=progress)
    after = told_at(running, ended, 101)
    assert after.phase is Phase.RESTARTING
    assert after.goodput is not None
    assert float(after.goodput.shares.stalled) == pytest.approx(34.7, abs=0.1)
    assert float(after.goodput.shares.productive) == pytest.approx(59.4, abs=0.1)


def test_pods_that_find_no_room_make_it_waiting_time() -> None:
    pending: dict[str, Any] = {
        "phase": PodPhase.PENDING,
        "ready": False,
        "reason": "Unschedulable",
        "message": "0/3 nodes",
    }
    waits = seen(a_trainer(**pending), a_rollout())
    first = told_at(a_status(), waits, 0)
    after = told_at(first, seen(a_trainer(), a_rollout()), 600)
    assert after.goodput is not None
    assert after.goodput.shares.waiting == "100.0"
