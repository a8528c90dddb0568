"""Whom the flight recorder asks for its record, and what it waits for. NCCL makes its FIFOs on GPUs alone: who listens
here is a stand-in."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from rljob_trainer.stall import flight_recorder
from rljob_trainer.stall.flight_recorder import TRACE, dump, enable
from waiting import WITHIN_S

RECORD = b"the last collectives"
LOOK_S = 1.0


@pytest.fixture
def target(tmp_path: Path) -> Path:
    found = tmp_path / "gathered"
    found.mkdir()
    return found


@contextmanager
def listening(folder: Path, rank: int) -> Iterator[int]:
    """Its FIFO, open for reading as the monitor thread of NCCL has it."""
    pipe = folder / f"{TRACE}{rank}.pipe"
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def monitor(folder: Path, rank: int) -> Iterator[Future[bytes]]:
    """Stands in for that thread: once something comes it writes the record of its rank, in two pieces. Gives what
    came."""

    def answer() -> bytes:
        ready, _, _ = select.select([descriptor], [], [], WITHIN_S)
        came = os.read(descriptor, 64) if ready else b""
        time.sleep(LOOK_S / 2)
        with (folder / f"{TRACE}{rank}").open("wb", buffering=0) as file:
            file.write(RECORD[:5])
            time.sleep(LOOK_S * 0.6)  # so that it is looked at in between
            file.write(RECORD[5:])
        return came

    with listening(folder, rank) as descriptor, ThreadPoolExecutor(1) as thread:
        yield thread.submit(answer)


def test_who_listens_is_asked_and_nobody_else_is_waited_for(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank that is gone has left its FIFO; one without NCCL has none."""
    monkeypatch.setattr(flight_recorder, "DUMP_SECONDS", WITHIN_S)
    monkeypatch.setattr(flight_recorder, "POLL_SECONDS", LOOK_S)
    with listening(tmp_path, 1):
        """And then it is gone."""
    with monitor(tmp_path, 0) as asked:
        dump(tmp_path, target, [0, 1, 2])
    assert asked.result() == b"1\n"
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {f"{TRACE}0.pickle": RECORD}


def test_who_listens_and_writes_nothing_is_not_waited_for_long(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_recorder, "DUMP_SECONDS", 0.2)
    with listening(tmp_path, 0):
        dump(tmp_path, target, [0])
    assert list(target.iterdir()) == []


def test_what_the_user_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"TORCH_FR_BUFFER_SIZE": "7"}
    monkeypatch.setattr(os, "environ", known)
    enable(tmp_path)
    trace = str(tmp_path / TRACE)
    assert known == {
        "TORCH_FR_BUFFER_SIZE": "7",
        "TORCH_FR_DUMP_TEMP_FILE": trace,
        "TORCH_NCCL_DEBUG_INFO_PIPE_FILE": trace,
    }


def test_of_a_monitor_that_has_just_gone_no_descriptor_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor, pipe = os.pipe()
    os.close(monitor)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_: pipe)
        dump(tmp_path, tmp_path, [0])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe)
