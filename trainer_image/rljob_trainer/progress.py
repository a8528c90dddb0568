"""What rank 0 tells while it runs: `GET /progress` for the operator, `GET /metrics` for Prometheus.

The loop writes on a `ProgressBoard`; a thread serves it. Only rank 0 has one that is served.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from threading import RLock, Thread
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from rljob_api.progress import BrokenReplica, Progress, TrainPhase
from rljob_api.run import Run
from rljob_api.status import CheckpointFacts
from rljob_trainer.errors import Mistake
from rljob_trainer.ledger import Ledger
from rljob_trainer.metrics import HELD_OUT, BoardCollector
from rljob_trainer.stall.pulse import Pulse
from rljob_trainer.trend import Trend

if TYPE_CHECKING:  # it imports torch, for which a conversion that is found would wait seconds
    from rljob_trainer.checkpoint.plan import Found
    from rljob_trainer.checkpoint.resume import ResumePlan

STEP_WINDOW = 25
"""Steps that the running median of step times looks back on."""


class ReadsBack(Protocol):
    """Reads checkpoints back while training goes on: the `Saver` has such a thread."""

    @property
    def proved(self) -> Collection[int]:
        """Steps of those that are whole."""
        ...

    @property
    def doubted(self) -> Collection[int]:
        """Steps of those that are damaged, or could not be read back."""
        ...


class ProgressBoard:
    """The trainer now, as others may ask for it at any time. Safe to use from several threads."""

    def __init__(self, run: Run, clock: Callable[[], float] = time.time, pulse: Pulse | None = None) -> None:
        """`pulse` is where the parent of this rank looks for signs of life."""
        self._clock = clock
        self._pulse = pulse
        self._waits = False
        self._ledger = Ledger(TrainPhase.PREPARE, clock())
        self._lock = RLock()
        self._depth = 0
        self._inside = 0.0
        self._seconds: dict[TrainPhase, float] = {}
        self._steps: deque[float] = deque(maxlen=STEP_WINDOW)
        self._trend = Trend()
        self._evaluated: dict[str, float] = {}
        self._broken: Callable[[], list[BrokenReplica]] = list
        self._reader: ReadsBack | None = None
        self._now = Progress(
            job_uid=run.uid,
            attempt=run.attempt,
            step=0,
            total_steps=run.spec.algorithm.grpo.max_steps,
            phase=TrainPhase.PREPARE,
            heartbeat=clock(),
        )

    @contextmanager
    def phase(self, phase: TrainPhase, detail: str = "") -> Iterator[TrainPhase]:
        """Be in a phase; its own seconds add up. Afterwards the phase around it comes back; without one it stays."""
        with self._lock:
            around = self._now.phase if self._depth else phase
            started = self._clock()
            around_spent, self._inside = self._inside, 0.0
            self._depth += 1
            self._enter(phase, detail)
        try:
            yield phase
        finally:
            with self._lock:
                spent = self._clock() - started
                self._depth -= 1
                self._seconds[phase] = self._seconds.get(phase, 0) + spent - self._inside
                self._inside = around_spent + spent
                self._enter(around, "")

    def _enter(self, phase: TrainPhase, detail: str) -> None:
        self._ledger.enter(phase, self._clock())
        self._set(phase=phase, detail=detail)

    def tell(self, detail: str) -> None:
        """A sign of life inside a phase, and what it is busy with."""
        self._set(detail=detail)

    def alive(self) -> None:
        """A sign of life."""
        self._set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for what another rank does alone: that one answers for the time it takes."""
        with self._lock:
            self._waits = True
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._waits = False
                self._set()

    def found(self, found: Found) -> None:
        """What there is to go on from."""
        self._set(
            checkpoint=found.newest, checkpoint_count=found.count, skipped_checkpoints=list(found.skipped)
        )

    def resume(self, plan: ResumePlan) -> None:
        """What the attempt goes on from."""
        self._ledger.repeat_until(plan.furthest or 0)
        self._evaluated = _held_out(plan.loop.metrics)
        self._set(
            step=plan.step,
            metrics=self._evaluated | _of_steps(plan.loop.metrics),
            resumed=plan.resumed,
            skipped_checkpoints=list(plan.skipped),
            checkpoint=plan.checkpoint,
            checkpoint_count=plan.checkpoint_count,
        )

    def regain(self, groups: int, seconds: float) -> None:
        """The step in hand uses groups of attempts before, which had spent so long on them."""
        with self._lock:
            self._ledger.regain(seconds)
            before = self._now.resumed
            self._set(
                resumed=before and before.model_copy(update={"kept_groups": before.kept_groups + groups})
            )
        logging.info("%d groups of completions were there from an earlier attempt", groups)

    def rollouts(self, transport: str, broken: Callable[[], list[BrokenReplica]]) -> None:
        """How weights travel, and whom to ask which servers were given up on."""
        with self._lock:
            self._broken = broken
            self._set(transport=str(transport))

    def saved(self, facts: CheckpointFacts, count: int | None = None, seconds: float = 0.0) -> None:
        """A checkpoint is whole; `count` of them are kept. It took `seconds`."""
        with self._lock:
            kept = self._now.checkpoint_count if count is None else count
            slowest = round(max(seconds, self._now.save_seconds or 0.0), 1)
            self._set(checkpoint=facts, checkpoint_count=max(kept, 1), save_seconds=slowest, save_failure="")

    def save_failed(self, sentence: str) -> None:
        """The volume refused a checkpoint; told until one is whole again."""
        logging.warning(sentence)
        self._set(save_failure=sentence)

    def pass_over(self, sentence: str) -> None:
        """A checkpoint turned out damaged, or cannot be read."""
        with self._lock:
            told = [*self._now.skipped_checkpoints, sentence]
            # Not by `_set`: that the disk is read says nothing of the loop's life.
            self._now = self._now.model_copy(update={"skipped_checkpoints": told})

    def reads_back(self, reader: ReadsBack) -> None:
        """Whom to ask what came of reading checkpoints back."""
        self._reader = reader

    def synced(self, version: int) -> None:
        """All servers have the weights after this many updates."""
        self._set(weight_version=version)

    def finish_step(self, step: int, metrics: dict[str, float]) -> None:
        """A step is done; what remains is estimated from the median of the last steps' `step_seconds`."""
        with self._lock:
            self._steps.append(metrics["step_seconds"])
            left = (self._now.total_steps - step) * median(self._steps)
            self._ledger.finish_step(step, self._clock())
            told = self._evaluated | metrics | self._trend.add(step, metrics.get("reward"))
            self._set(step=step, metrics=told, estimated_remaining_seconds=left)

    def evaluated(self, metrics: dict[str, float]) -> None:
        """`val:*` do not come with every step: they stay until they come again."""
        with self._lock:
            self._evaluated = _held_out(metrics)
            self._set(metrics=self._now.metrics | self._evaluated)

    def progress(self) -> Progress:
        """All of it, now."""
        with self._lock:
            told = {
                "broken_replicas": list(self._broken()),
                "spent": self._ledger.spent(self._clock()),
                "checkpoint": self._judged(self._now.checkpoint),
            }
            return self._now.model_copy(update=told)

    def _judged(self, newest: CheckpointFacts | None) -> CheckpointFacts | None:
        """With what came of reading it back so far."""
        if newest is None or self._reader is None:
            return newest
        damaged = newest.step in self._reader.doubted
        verified = not damaged and (newest.verified or newest.step in self._reader.proved)
        return newest.model_copy(update={"verified": verified, "damaged": damaged})

    def serve(self, host: str, port: int) -> int:
        """Answer at `host:port` until the process ends; gives the port. Raises `Mistake` if it is taken."""
        server = _bound(self, host, port)
        Thread(target=server.serve_forever, daemon=True, name="progress").start()
        return server.server_port

    def _set(self, **changes: object) -> None:
        """Every change is a sign of life."""
        with self._lock:
            self._now = now = self._now.model_copy(update=changes | {"heartbeat": self._clock()})
            if self._pulse:
                phase = None if self._waits else now.phase
                self._pulse.beat(phase, now.step, now.detail, time.monotonic())

    def phase_seconds(self) -> dict[TrainPhase, float]:
        """Seconds spent in each phase so far, without the one that is under way."""
        with self._lock:
            return dict(self._seconds)


def _held_out(metrics: dict[str, float]) -> dict[str, float]:
    """Without what tells them from those of steps."""
    return {
        name.removeprefix(HELD_OUT): value for name, value in metrics.items() if name.startswith(HELD_OUT)
    }


def _of_steps(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(HELD_OUT)}


def _bound(board: ProgressBoard, host: str, port: int) -> ThreadingHTTPServer:
    try:
        return ThreadingHTTPServer((host, port), _handler(board))
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}:
            raise
        raise Mistake(
            f"Progress cannot be served at {host}:{port}: {os.strerror(error.errno)}. End what uses that port"
            f" (`ss -ltnp 'sport = {port}'` names it) and start the job again."
        ) from error


def _handler(board: ProgressBoard) -> type[BaseHTTPRequestHandler]:
    registry = CollectorRegistry()
    registry.register(BoardCollector(board.progress, board.phase_seconds, time.time))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/progress":
                    self._answer("application/json", board.progress().model_dump_json(by_alias=True).encode())
                case "/metrics":
                    self._answer(CONTENT_TYPE_LATEST, generate_latest(registry))
                case _:
                    self.send_error(404, "Ask for /progress or /metrics")

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # whoever asked did not wait
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A poll every few seconds is no news."""

    return Handler
