"""A checkpoint that was saved before its evaluation: never lost for that while it is the newest, and ranked later."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rljob_api.manifest import MANIFEST_FILE
from rljob_api.parallelism import BackendName
from rljob_api.run import Run
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.checkpoint.directory import Directory, Storage, open_storage
from rljob_trainer.checkpoint.evaluation import EVALUATION_FILE, add_evaluation, added_metrics
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.checkpoint.verify import read_manifest, verify
from rljob_trainer.leader import Inputs, Leader
from rljob_trainer.progress import ProgressBoard
from trainer.answering import a_model
from trainer.checkpoints import VERSIONS, a_run, layout, save
from trainer.resuming import VALIDATED, a_job, trained

NAME = "val:accuracy"
KNOBS = {"keepLatest": 1, "keepTopK": {"count": 1}}


def a_ranked_run(root: Path, attempt: int = 1) -> Run:
    return a_run(root, attempt, checkpoint=KNOBS, data=VALIDATED)


def metrics_of(checkpoint: Path) -> dict[str, float]:
    """All that is known of its step."""
    return read_manifest(checkpoint).metrics | added_metrics(checkpoint)


@pytest.fixture
def late(tmp_path: Path) -> Storage:
    """Step 1 was evaluated before it was saved; step 2 was not."""
    run = a_ranked_run(tmp_path)
    save(run, 1, metrics={NAME: 0.1})
    save(run, 2)
    return Storage.of(run)


def saved_after(late: Storage, accuracy: float) -> list[int]:
    """The steps that are left when two more were saved."""
    save(a_ranked_run(late.root), 3, metrics={NAME: accuracy})
    save(a_ranked_run(late.root), 4, metrics={NAME: 0.0})
    return late.steps()


def test_the_newest_stays_though_it_has_no_value(late: Storage) -> None:
    assert late.steps() == [1, 2]
    again = a_ranked_run(late.root, 2)
    assert plan_resume(open_storage(again), again, layout(), VERSIONS).step == 2


def test_one_that_was_never_evaluated_is_not_ranked(late: Storage) -> None:
    assert saved_after(late, 0.2) == [3, 4]


@pytest.mark.parametrize(("accuracy", "left"), [(0.9, [2, 4]), (0.15, [3, 4])])
def test_one_that_was_evaluated_later_is_ranked_by_what_came_out(
    late: Storage, accuracy: float, left: list[int]
) -> None:
    add_evaluation(late, 2, {NAME: accuracy})
    assert saved_after(late, 0.2) == left


def test_the_value_changes_nothing_that_was_saved(late: Storage) -> None:
    checkpoint = late.checkpoint(2)
    before = (checkpoint / MANIFEST_FILE).read_bytes()
    add_evaluation(late, 2, {NAME: 0.9})
    assert (checkpoint / MANIFEST_FILE).read_bytes() == before
    assert verify(checkpoint) == []
    assert (read_manifest(checkpoint).metrics, added_metrics(checkpoint)) == ({}, {NAME: 0.9})


def test_a_value_that_is_damaged_counts_as_none(late: Storage, caplog: pytest.LogCaptureFixture) -> None:
    (late.checkpoint(2) / EVALUATION_FILE).write_text('{"metrics": {"val:acc')
    assert saved_after(late, 0.2) == [3, 4]
    assert "evaluation.json is damaged" in caplog.text


def test_a_step_without_a_checkpoint_leaves_nothing(late: Storage) -> None:
    add_evaluation(late, 3, {NAME: 0.9})
    assert late.steps() == [1, 2]


def test_an_older_attempt_adds_nothing(late: Storage) -> None:
    open_storage(a_ranked_run(late.root, 2))
    with pytest.raises(FencedError):
        add_evaluation(late, 2, {NAME: 0.9})
    assert not (late.checkpoint(2) / EVALUATION_FILE).exists()


def test_an_older_attempt_adds_nothing_to_the_curves(late: Storage) -> None:
    run, nothing = a_ranked_run(late.root), cast("Any", None)
    curves: dict[int, dict[str, float]] = {}
    prompt = Prompt(0, "", [1], "")
    answered: Any = SimpleNamespace(generate=lambda *_, **__: [Sample(prompt, 0, [1], [0.0], "", "stop", 2)])
    asked = Inputs(nothing, cast("Any", SimpleNamespace(all=lambda: [prompt])), 0)
    log: Any = SimpleNamespace(write=curves.__setitem__)
    board = ProgressBoard(run)
    leader = Leader(run.spec, answered, asked, lambda *_: 0.5, late, log, board, lambda: None, nothing)
    leader.evaluate(LoopState(step=2))
    open_storage(a_ranked_run(late.root, 2))
    with pytest.raises(FencedError):
        leader.evaluate(LoopState(step=3))
    assert curves == {2: {NAME: 0.5}}


def test_what_the_restart_evaluates_is_noted_with_the_checkpoint_that_it_began_from(tmp_path: Path) -> None:
    a_model(tmp_path / "model")
    told = trained(a_job(tmp_path / "job", BackendName.DTENSOR, validated=True), stop=2)
    directory = Directory(tmp_path / "job" / "storage")
    assert told.message == "told to go; step 2 is saved"
    assert NAME not in metrics_of(directory.checkpoint(2))
    told = trained(a_job(tmp_path / "job", BackendName.DTENSOR, attempt=2, validated=True), stop=3)
    assert told.exactness == "Exact"
    events = EventAccumulator(str(directory.root / "tensorboard"))
    events.Reload()
    curve = {event.step: event.value for event in events.Scalars("val/accuracy")}
    assert sorted(curve) == [0, 1, 2]
    assert metrics_of(directory.checkpoint(2))[NAME] == pytest.approx(curve[2])
    assert verify(directory.checkpoint(2)) == []
