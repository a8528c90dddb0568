"""NCCL's flight recorder: the last collectives of each rank, for a hang on GPUs.

Names and defaults from torch 2.13 (`FlightRecorder.hpp`, `ProcessGroupNCCL.hpp`): a rank with a default group on NCCL
makes the FIFO `<prefix><rank>.pipe`; a line written there makes its monitor thread, which needs no interpreter lock,
write `<prefix><rank>`. Not run: no test here has GPUs.
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
    deadline = time.monotonic() + DUMP_SECONDS
    while any(not (folder / f"{TRACE}{rank}").exists() for rank in asked) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for rank in asked:
        if (record := folder / f"{TRACE}{rank}").exists():
            shutil.copyfile(record, target / f"{TRACE}{rank}.pickle")


def _ask(pipe: Path) -> bool:
    """Whether somebody listens there."""
    with suppress(OSError):  # no pipe, nobody at its other end, or nobody any more
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "wb", buffering=0) as monitor:
            monitor.write(b"1\n")
        return True
    return False
