"""NCCL's flight recorder: the last collectives of each rank, for a hang on GPUs.

Names and defaults from torch 2.13 (`FlightRecorder.hpp`, `ProcessGroupNCCL.hpp`): a rank with a default group on NCCL
makes the FIFO `<prefix><rank>.pipe`; a line written there makes its monitor thread, which needs no interpreter lock,
write `<prefix><rank>`. Not run with NCCL itself, for want of GPUs: a stand-in reads the FIFO and writes in its tests.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

ENTRIES = 2000
"""Collectives that are remembered; torch's own default, but its pipe wants it spelled out."""
DUMP_SECONDS = 5.0
"""The monitor looks at the pipe once a second."""
POLL_SECONDS = 0.1
TRACE = "nccl-"


def enable(folder: Path) -> None:
    """In a rank, before its process group exists. What the user set stays."""
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", str(ENTRIES))
    os.environ.setdefault("TORCH_FR_DUMP_TEMP_FILE", str(folder / TRACE))
    os.environ.setdefault("TORCH_NCCL_DEBUG_INFO_PIPE_FILE", str(folder / TRACE))


def dump(folder: Path, target: Path, ranks: list[int]) -> None:
    """Have each rank write its record, and put what came into `target`. Without NCCL there are no pipes."""
    asked = [rank for rank in ranks if _ask(folder / f"{TRACE}{rank}.pipe")]
    _wait_until_written([folder / f"{TRACE}{rank}" for rank in asked])
    for rank in asked:
        if (record := folder / f"{TRACE}{rank}").exists():
            shutil.copyfile(record, target / f"{TRACE}{rank}.pickle")


def _wait_until_written(records: list[Path]) -> None:
    """Until all are there and none grows any more, or `DUMP_SECONDS` have passed."""
    deadline, sizes = time.monotonic() + DUMP_SECONDS, list[int]()
    while time.monotonic() < deadline:
        before, sizes = sizes, [record.stat().st_size if record.exists() else 0 for record in records]
        if sizes == before and all(sizes):
            return
        time.sleep(POLL_SECONDS)


def _ask(pipe: Path) -> bool:
    """Whether somebody listens there."""
    with suppress(OSError):  # no pipe, nobody at its other end, or nobody any more
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "wb", buffering=0) as monitor:
            monitor.write(b"1\n")
        return True
    return False
