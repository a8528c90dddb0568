"""What rank 0 tells while it runs: `GET /progress` for the operator, `GET /metrics` for Prometheus.

The loop writes on a `ProgressBoard`; a thread serves it. Only rank 0 has one that is served.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from threading import RLock, Thread
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from rljob_api.progress import Progress, TrainPhase

from rljob_trainer.errors import Mistake
from rljob_trainer.metrics import BoardCollector

STEP_WINDOW = 25
"""Steps that the running median of step times looks back on."""


class ProgressBoard:
    """The trainer now, as others may ask for it at any time. Safe to use from several threads."""

    def __init__(self, attempt: int, total_steps: int, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = RLock()
        self._seconds: dict[TrainPhase, float] = {}
        self._steps: deque[float] = deque(maxlen=STEP_WINDOW)
        self._now = Progress(
            attempt=attempt,
            step=0,
            total_steps=total_steps,
            phase=TrainPhase.PREPARE,
            heartbeat=clock(),
        )

    @contextmanager
    def phase(self, phase: TrainPhase, detail: str = "") -> Iterator[None]:
        """Be in a phase; its seconds add up, and the phase around it comes back afterwards."""
        with self._lock:
            around, started = self._now.phase, self._clock()
            self.update(phase=phase, detail=detail)
        try:
            yield
        finally:
            with self._lock:
                spent = self._clock() - started
                self._seconds[phase] = self._seconds.get(phase, 0) + spent
                self.update(phase=around, detail="")

    def beat(self, detail: str = "") -> None:
        """A sign of life inside a phase."""
        self.update(detail=detail or self.snapshot().detail)

    def update(self, **changes: Any) -> None:
        """Set fields of `Progress` by name; every change is a sign of life."""
        with self._lock:
            values = self._now.model_dump() | changes | {"heartbeat": self._clock()}
            self._now = Progress.model_validate(values)

    def step_finished(self, step: int, seconds: float, metrics: dict[str, float]) -> None:
        """A step is done; what remains is estimated from the median of recent steps."""
        with self._lock:
            self._steps.append(seconds)
            left = (self._now.total_steps - step) * median(self._steps)
            self.update(step=step, metrics=metrics, estimated_remaining_seconds=left)

    def snapshot(self) -> Progress:
        with self._lock:
            return self._now

    def phase_seconds(self) -> dict[TrainPhase, float]:
        """Seconds spent in each phase so far, without the one that is under way."""
        with self._lock:
            return dict(self._seconds)


@contextmanager
def served(board: ProgressBoard, host: str, port: int) -> Iterator[int]:
    """Answer at `host:port` until the end of the block; gives the port, for 0. Raises `Mistake` if it is taken."""
    try:
        server = ThreadingHTTPServer((host, port), _handler(board))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            raise
        raise Mistake(
            f"Progress cannot be served at {host}:{port}: {error.strerror}. End what uses that port"
            f" (`ss -ltnp 'sport = {port}'` names it), or start the job again once it is free."
        ) from error
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True, name="progress")
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(board: ProgressBoard) -> type[BaseHTTPRequestHandler]:
    registry = CollectorRegistry()
    registry.register(BoardCollector(board.snapshot, board.phase_seconds, time.time))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/progress":
                    self._answer("application/json", board.snapshot().model_dump_json(by_alias=True).encode())
                case "/metrics":
                    self._answer(CONTENT_TYPE_LATEST, generate_latest(registry))
                case _:
                    self.send_error(404, "Ask for /progress or /metrics")

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A poll every few seconds is no news."""

    return Handler
