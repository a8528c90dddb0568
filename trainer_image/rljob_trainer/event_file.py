"""TensorBoard's event file. Called by `metrics.py`.

TensorBoard's own writer is a thread that a full volume ends for good. Here the numbers of a step are appended in one
go; what the volume refuses is kept and tried again, and a record that it tore is cut off first.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

VERSION = "brain.Event:2"
KEPT = 10_000
"""Steps that are kept while the volume refuses them: some megabytes. The oldest are given up first."""


class EventFile:
    """A new file of its own, made by the first `flush`."""

    def __init__(self, directory: Path, purge_from: int, clock: Callable[[], float] = time.time) -> None:
        """What older files have from step `purge_from` on is not shown any more."""
        self._clock = clock
        name = f"events.out.tfevents.{clock():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._path = directory / name
        self._written = 0
        started = SessionLog(status=SessionLog.START)
        self._opening = self._record(file_version=VERSION) + self._record(
            step=purge_from, session_log=started
        )
        self._pending: deque[bytes] = deque(maxlen=KEPT)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take down the metrics of a step."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._pending.append(self._record(step=step, summary=Summary(value=values)))

    def flush(self) -> None:
        """Write what was taken down. Raises `OSError`; it is then still to be written."""
        if not self._pending:
            return
        data = b"".join([*([] if self._written else [self._opening]), *self._pending])
        with self._path.open("ab") as file:
            file.truncate(self._written)
            file.write(data)
        self._written += len(data)
        self._pending.clear()

    def _record(self, **event: object) -> bytes:
        record = BytesIO()
        RecordWriter(record).write(Event(wall_time=self._clock(), **event).SerializeToString())
        return record.getvalue()
