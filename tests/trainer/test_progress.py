"""What rank 0 tells, over real HTTP; and what stays behind: last words and curves."""

from __future__ import annotations

import errno
import math
import socket
import struct
import urllib.request
from pathlib import Path
from threading import Event
from threading import enumerate as enumerate_threads

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rljob_api.progress import Ending, LastWords, Progress, TrainPhase
from rljob_api.status import CheckpointFacts
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.errors import Mistake
from rljob_trainer.metrics import MetricsLog, TensorboardLog
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.words import fitted, read_last_words, write_last_words
from trainer.checkpoints import VERSIONS, a_run, layout, save
from waiting import until

CLOSE_BY_A_RESET = struct.pack("ii", 1, 0)


class Clock:
    """Time that only moves when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as answer:
        text: str = answer.read().decode()
    return text


def test_progress_and_metrics_are_served(tmp_path: Path) -> None:
    run = a_run(tmp_path).model_copy(update={"uid": "1111-2222"})
    board = ProgressBoard(run)
    port = board.serve("127.0.0.1", 0)
    board.finish_step(3, {"step_seconds": 2.0, "reward": 0.5, "kl": math.nan})
    board.saved(a_fact())
    told = Progress.model_validate_json(get(port, "/progress"))
    assert told.job_uid == "1111-2222"
    assert (told.step, told.total_steps, told.estimated_remaining_seconds) == (3, 10, 14.0)
    assert math.isnan(told.metrics["kl"]), "NaN is news"
    scraped = get(port, "/metrics")
    for line in ("rljob_step 3.0", 'rljob_metric{name="reward"} 0.5', "rljob_checkpoint_step 2.0"):
        assert line in scraped.splitlines()


def test_who_leaves_before_the_answer_is_not_told_of_as_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    board = ProgressBoard(a_run(tmp_path))
    asked, left, told = Event(), Event(), board.progress()

    def when_they_have_left() -> Progress:
        asked.set()
        assert left.wait(120)
        return told

    port = board.serve("127.0.0.1", 0)
    with monkeypatch.context() as patch:
        patch.setattr(board, "progress", when_they_have_left)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_BY_A_RESET)
            client.sendall(b"GET /progress HTTP/1.0\r\n\r\n")
            assert asked.wait(120)
        left.set()
        until(
            lambda: not any("process_request" in thread.name for thread in enumerate_threads()),
            "it is served",
            120,
        )
    assert "Traceback" not in capfd.readouterr().err


def a_fact() -> CheckpointFacts:
    return CheckpointFacts(
        step=2,
        time="2026-01-01T00:00:00+00:00",
        path="/step_2",
        bytes=7,
        verified=True,
        has_rng=True,
        has_optimizer=True,
        layout="tp1-pp1-dp1",
    )


def test_a_taken_port_is_a_sentence(tmp_path: Path) -> None:
    board = ProgressBoard(a_run(tmp_path))
    port = board.serve("127.0.0.1", 0)
    with pytest.raises(Mistake, match=rf"127.0.0.1:{port}: Address already in use"):
        board.serve("127.0.0.1", port)


def test_phases_nest_beat_and_add_up(tmp_path: Path) -> None:
    clock = Clock()
    board = ProgressBoard(a_run(tmp_path), clock)
    with board.phase(TrainPhase.TRAIN):
        clock.now += 5
        with board.phase(TrainPhase.SAVE):
            clock.now += 2
            board.tell("hashing")
            assert (board.progress().phase, board.progress().detail) == (TrainPhase.SAVE, "hashing")
        assert board.progress().phase is TrainPhase.TRAIN
    assert board.progress().heartbeat == 1007.0
    assert board.phase_seconds() == {TrainPhase.TRAIN: 5.0, TrainPhase.SAVE: 2.0}, "each second once"
    assert board.progress().phase is TrainPhase.TRAIN, "until the next one begins"


def test_the_estimate_follows_the_median_step(tmp_path: Path) -> None:
    board = ProgressBoard(a_run(tmp_path))
    for step, seconds in enumerate([50.0, 1.0, 1.0], start=1):
        board.finish_step(step, {"step_seconds": seconds})
    assert board.progress().estimated_remaining_seconds == 7.0


def test_the_board_says_what_was_resumed(tmp_path: Path) -> None:
    save(a_run(tmp_path), 2, metrics={"reward": 0.5})
    run = a_run(tmp_path, 2)
    from rljob_trainer.checkpoint.directory import open_storage

    board = ProgressBoard(run)
    board.resume(plan_resume(open_storage(run), run, layout(), VERSIONS))
    told = board.progress()
    assert told.resumed is not None
    assert (told.step, told.resumed.from_step, told.metrics, told.checkpoint_count) == (
        2,
        2,
        {"reward": 0.5},
        1,
    )


def test_numbers_of_before_a_resume_stay_until_the_step_that_has_its_own(tmp_path: Path) -> None:
    """A job that begins with another's checkpoint may not have all of its numbers."""
    save(a_run(tmp_path), 2, metrics={"reward": 0.5, "kl": 0.1, "val:accuracy": 0.7})
    run = a_run(tmp_path, 2)
    from rljob_trainer.checkpoint.directory import open_storage

    board = ProgressBoard(run)
    board.resume(plan_resume(open_storage(run), run, layout(), VERSIONS))
    assert board.progress().metrics == {"reward": 0.5, "kl": 0.1, "accuracy": 0.7}
    board.finish_step(3, {"step_seconds": 1.0})
    assert board.progress().metrics == {"step_seconds": 1.0, "accuracy": 0.7}
    board.evaluated({"val:accuracy": 0.8})
    assert board.progress().metrics == {"step_seconds": 1.0, "accuracy": 0.8}


def test_the_board_says_what_turned_out_damaged(tmp_path: Path) -> None:
    now = [5.0]
    board = ProgressBoard(a_run(tmp_path), clock=lambda: now[0])
    board.saved(a_fact())
    now[0] = 9.0
    board.pass_over("The checkpoint of step 1 is damaged.")
    board.pass_over("So is the newest.")
    told = board.progress()
    assert told.skipped_checkpoints == ["The checkpoint of step 1 is damaged.", "So is the newest."]
    assert told.heartbeat == 5.0, "reading the disk is no sign of the loop's life"


def test_last_words_fit_and_keep_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "termination-log"
    monkeypatch.setenv("RLJOB_TERMINATION_LOG", str(log))
    words = LastWords(ending=Ending.FAILED, role="trainer", rank=1, attempt=2, message="a" + "é" * 9999 + "z")
    write_last_words(words, tmp_path)
    assert len(log.read_bytes()) <= 4096
    left = read_last_words(log)
    assert left == read_last_words(tmp_path / "last_words" / "2-trainer-1.json")
    assert left is not None
    assert (left.message[0], left.message[-1]) == ("a", "z")


def test_a_long_progress_gives_way_to_the_message() -> None:
    metrics = {f"metric {number}": 0.5 for number in range(500)}
    progress = Progress(
        attempt=1, step=1, total_steps=2, phase=TrainPhase.TRAIN, heartbeat=0, metrics=metrics
    )
    words = LastWords(ending=Ending.FAILED, role="trainer", message="why", progress=progress)
    left = LastWords.model_validate_json(fitted(words))
    assert (left.message, left.progress) == ("why", None)


def test_beside_a_long_message_there_is_room_for_what_rank_0_tells_and_whose_it_is() -> None:
    metrics = {f"a metric of training {number}": 1 / 3 for number in range(30)}
    uid = "0f9ab4de-6c1e-4f0c-9e55-1b3a2c4d5e6f"
    progress = Progress(
        job_uid=uid,
        attempt=1,
        step=1,
        total_steps=2,
        phase=TrainPhase.TRAIN,
        heartbeat=1 / 3,
        metrics=metrics,
    )
    words = LastWords(ending=Ending.FAILED, role="trainer", message="why " * 2500, progress=progress)
    assert LastWords.model_validate_json(fitted(words)).progress == progress


def test_words_on_a_volume_that_refuses_do_not_hide_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "termination-log"
    monkeypatch.setenv("RLJOB_TERMINATION_LOG", str(log))
    write_last_words(LastWords(ending=Ending.COMPLETE, role="trainer"), Path("/sys/rljob"))
    assert read_last_words(log) is not None
    assert "could not be left in /sys/rljob" in capsys.readouterr().err


def test_no_words_are_no_words(tmp_path: Path) -> None:
    assert read_last_words(tmp_path / "none") is None


def curve(directory: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(directory))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("reward")]


def test_curves_that_cannot_be_ended_do_not_change_how_a_job_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: TensorboardLog) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = MetricsLog(a_run(tmp_path), tmp_path, 0)
    with monkeypatch.context() as full:
        full.setattr(TensorboardLog, "close", refuse)
        log.close()
    assert "Ending the curves failed: [Errno 28] No space left on device. Training goes on." in caplog.text
    log.close()


def test_a_curve_has_each_step_once_after_a_restart(tmp_path: Path) -> None:
    first = MetricsLog(a_run(tmp_path), tmp_path, 0)
    for step in (1, 2, 3):
        first.write(step, {"reward": 0.0})
    first.close()
    second = MetricsLog(a_run(tmp_path, 2), tmp_path, 1)
    for step in (2, 3, 4):
        second.write(step, {"reward": 1.0})
    second.close()
    assert curve(tmp_path) == [(1, 0.0), (2, 1.0), (3, 1.0), (4, 1.0)]
