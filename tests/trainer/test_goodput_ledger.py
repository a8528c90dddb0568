"""What an attempt's time went into, as the trainer keeps it: by phase, and by whether the step came to count."""

from __future__ import annotations

from pathlib import Path

import pytest

from rljob_api.goodput import Seconds
from rljob_api.progress import TrainPhase
from rljob_api.status import Exactness
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.ledger import Ledger
from rljob_trainer.progress import ProgressBoard
from trainer.checkpoints import a_run


def played(*phases: tuple[TrainPhase, float, int], repeats_until: int = 0) -> Seconds:
    """Each phase with its seconds, and the step that is finished at its end or 0."""
    now = 100.0
    ledger = Ledger(TrainPhase.PREPARE, now)
    ledger.repeat_until(repeats_until)
    for phase, seconds, finished in phases:
        ledger.enter(phase, now)
        now += seconds
        if finished:
            ledger.finish_step(finished, now)
    return ledger.spent(now)


def test_no_step_is_productive_twice(tmp_path: Path) -> None:
    """An attempt from step 2, while an earlier one had come to 5."""
    now = 100.0
    board = ProgressBoard(a_run(tmp_path), lambda: now)
    board.resume(ResumePlan(2, None, True, True, Exactness.EXACT, "", lost_steps=3))
    for step in (3, 4, 5, 6):
        with board.phase(TrainPhase.TRAIN):
            now += 1
            board.finish_step(step, {"step_seconds": 1.0})
    spent = board.progress().spent
    assert spent is not None
    assert (spent.recomputing, spent.productive) == (3, 1)


STEP = [(TrainPhase.GENERATE, 4.0, 0), (TrainPhase.REWARD, 1.0, 0)]


def test_a_step_counts_once_it_is_finished() -> None:
    spent = played(*STEP, (TrainPhase.TRAIN, 3, 1), (TrainPhase.SYNC, 2, 0), *STEP)
    assert spent == Seconds(productive=8, syncing=2, in_hand=5)


def test_nothing_is_in_hand_once_all_steps_ran() -> None:
    spent = played(*STEP, (TrainPhase.TRAIN, 3, 1), (TrainPhase.DONE, 2, 0))
    assert spent == Seconds(productive=8, restarting=2)


def test_steps_that_had_been_finished_before_are_repetitions() -> None:
    steps = [(*STEP, (TrainPhase.TRAIN, 3.0, number)) for number in (11, 12, 13)]
    spent = played(*(phase for step in steps for phase in step), repeats_until=12)
    assert (spent.recomputing, spent.productive) == (16, 8)


@pytest.mark.parametrize(("repeats_until", "regained"), [(0, 30.0), (1, 0.0)])
def test_groups_of_an_earlier_attempt_count_once_their_step_is_finished(
    repeats_until: int, regained: float
) -> None:
    """Unless it had been finished before: then they counted with it."""
    ledger = Ledger(TrainPhase.GENERATE, 0)
    ledger.repeat_until(repeats_until)
    ledger.regain(30)
    assert ledger.spent(1).regained == 0
    ledger.finish_step(1, 2)
    assert ledger.spent(2).regained == regained
    ledger.finish_step(2, 3)
    assert ledger.spent(3).regained == regained, "once"
    assert ledger.spent(3).total == 3, "it is time of another attempt"


def test_preparing_saving_and_waiting_have_names_of_their_own() -> None:
    spent = played(
        (TrainPhase.PREPARE, 5, 0),
        (TrainPhase.LOAD, 6, 0),
        (TrainPhase.WAIT, 7, 0),
        (TrainPhase.SAVE, 8, 0),
        (TrainPhase.EVALUATE, 9, 0),
    )
    assert spent == Seconds(restarting=11, waiting=7, saving=8, productive=9)


def test_a_phase_inside_another_counts_once(tmp_path: Path) -> None:
    now = 100.0
    board = ProgressBoard(a_run(tmp_path), lambda: now)
    with board.phase(TrainPhase.SYNC):
        now += 1
        with board.phase(TrainPhase.WAIT):
            now += 5
        now += 2
    assert board.phase_seconds() == {TrainPhase.SYNC: 3, TrainPhase.WAIT: 5}
    spent = board.progress().spent
    assert spent is not None
    assert (spent.syncing, spent.waiting) == (3, 5)
