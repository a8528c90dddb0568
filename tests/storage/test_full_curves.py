"""A volume that is full for a while costs no point of a curve: one warning, and all of it once there is room."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rljob_trainer.metrics import MetricsLog
from storage.test_full_volume import empty, with_bytes
from storage.volumes import Volume
from trainer.checkpoints import a_run

NAMES = [f"metric_{number:02}" for number in range(50)]
"""So many that a step takes a good part of a page: it is torn where the room ends."""


@pytest.fixture
def ballast(small: Volume) -> Iterator[Path]:
    path = small.path / "ballast"
    path.mkdir()
    yield path
    empty(path)


def a_log(volume: Volume, start: int = 0) -> MetricsLog:
    directory = volume.path / "tensorboard"
    directory.mkdir(exist_ok=True)
    return MetricsLog(a_run(volume.path), directory, start)


def write(log: MetricsLog, *steps: int) -> None:
    for step in steps:
        log.write(step, {name: float(step) for name in NAMES} | {"val:accuracy": 1 / step})


def curves(volume: Volume) -> list[tuple[int, float]]:
    """Steps and values, which are the same in all of them."""
    events = EventAccumulator(str(volume.path / "tensorboard"))
    events.Reload()
    first, *others = ([(event.step, event.value) for event in events.Scalars(name)] for name in NAMES)
    assert all(other == first for other in others)
    assert [event.step for event in events.Scalars("val/accuracy")] == [step for step, _ in first]
    return first


def every(steps: range) -> list[tuple[int, float]]:
    return [(step, float(step)) for step in steps]


def test_the_curves_go_on_whole_when_there_is_room_again(
    small: Volume, ballast: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log = a_log(small)
    write(log, 1, 2)
    with_bytes(ballast, small, 0)
    write(log, 3, 4, 5, 6, 7)
    assert len(curves(small)) < 7, "it is really full"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [told.partition(" of step ")[0] for told in warnings if "Writing" in told] == [
        "Writing the curves"
    ]
    assert "No space left on device. Training goes on" in warnings[0]
    empty(ballast)
    write(log, 8)
    log.close()
    assert curves(small) == every(range(1, 9))
    assert caplog.messages[-1] != warnings[0], "and that they are written again is told"


def test_a_job_that_starts_on_a_full_volume_has_its_curves_later(small: Volume, ballast: Path) -> None:
    write(a_log(small), 1, 2, 3)
    with_bytes(ballast, small, 0)
    resumed = a_log(small, start=2)
    write(resumed, 3, 4)
    empty(ballast)
    write(resumed, 5)
    assert curves(small) == every(range(1, 6)), "each step once"


def test_what_is_never_taken_is_told_at_the_end_and_is_no_error(
    small: Volume, ballast: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_bytes(ballast, small, 0)
    log = a_log(small)
    write(log, 1)
    log.close()
    assert caplog.messages[-1].startswith("Ending the curves failed: [Errno 28] No space left on device")
