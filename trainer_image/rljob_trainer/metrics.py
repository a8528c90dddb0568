"""Where numbers go: Prometheus (on demand), TensorBoard and Weights & Biases (each step, rank 0)."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rljob_api.progress import Progress, TrainPhase
from rljob_api.run import Run
from rljob_trainer.checkpoint.durable import dispensable
from rljob_trainer.errors import Mistake

HELD_OUT = "val:"
"""What the names of metrics begin with that an evaluation gives."""


class BoardCollector(Collector):
    """A progress board in Prometheus' terms, made anew for each scrape."""

    def __init__(
        self,
        snapshot: Callable[[], Progress],
        phase_seconds: Callable[[], Mapping[TrainPhase, float]],
        clock: Callable[[], float],
    ) -> None:
        self._snapshot, self._phase_seconds, self._clock = snapshot, phase_seconds, clock

    def collect(self) -> Iterator[Metric]:
        return families(self._snapshot(), self._phase_seconds(), self._clock())


def families(progress: Progress, seconds: Mapping[TrainPhase, float], now: float) -> Iterator[Metric]:
    """Everything on the board; training metrics keep their own names in the label `name`."""
    yield GaugeMetricFamily("rljob_attempt", "Number of the running attempt.", progress.attempt)
    yield GaugeMetricFamily("rljob_step", "Finished steps.", progress.step)
    yield GaugeMetricFamily("rljob_steps_total", "Steps of the whole job.", progress.total_steps)
    yield GaugeMetricFamily(
        "rljob_heartbeat_age_seconds", "Since the last sign of life.", now - progress.heartbeat
    )
    if progress.estimated_remaining_seconds is not None:
        remaining = progress.estimated_remaining_seconds
        yield GaugeMetricFamily("rljob_remaining_seconds", "Estimated time left.", remaining)
    if progress.weight_version is not None:
        yield GaugeMetricFamily("rljob_weight_version", "Of the rollout servers.", progress.weight_version)
    yield _labelled("rljob_phase", "1 for the phase under way.", {str(progress.phase): 1.0}, "phase")
    yield _labelled("rljob_metric", "Metrics of the last step.", progress.metrics, "name")
    yield _spent(seconds)
    yield from _checkpoint(progress, now)


def _spent(seconds: Mapping[TrainPhase, float]) -> Metric:
    family = CounterMetricFamily("rljob_phase_seconds", "Time spent in each phase.", labels=["phase"])
    for phase, spent in seconds.items():
        family.add_metric([str(phase)], spent)
    return family


def _labelled(name: str, text: str, values: Mapping[str, float], label: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _checkpoint(progress: Progress, now: float) -> Iterator[Metric]:
    yield GaugeMetricFamily("rljob_checkpoints", "Checkpoints kept.", progress.checkpoint_count)
    if progress.checkpoint is not None:
        age = now - datetime.fromisoformat(progress.checkpoint.time).timestamp()
        yield GaugeMetricFamily(
            "rljob_checkpoint_step", "Of the newest checkpoint.", progress.checkpoint.step
        )
        yield GaugeMetricFamily("rljob_checkpoint_age_seconds", "Since the newest checkpoint.", age)
        yield GaugeMetricFamily(
            "rljob_checkpoint_bytes", "Of the newest checkpoint.", progress.checkpoint.bytes
        )


class Log(Protocol):
    """Takes the metrics of each step."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorboardLog:
    """Event files; after a resume from `start`, later steps of earlier attempts are purged, not doubled."""

    def __init__(self, directory: Path, start: int) -> None:
        from rljob_trainer.event_file import EventFile

        self._file = EventFile(directory, purge_from=start + 1)
        self._refused = False

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """What the volume refuses is told once, and written when it takes it."""
        self._file.add(step, {name.replace(":", "/"): value for name, value in metrics.items()})
        try:
            self._file.flush()
        except OSError as error:
            if not self._refused:
                logging.warning(
                    "Writing the curves of step %d failed: %s. Training goes on; they are kept in memory, and written"
                    " when the volume takes them.",
                    step,
                    error,
                )
            self._refused = True
        else:
            if self._refused:
                logging.info("The curves are written again, with those of the steps between")
            self._refused = False

    def close(self) -> None:
        """Raises `OSError` if some could not be written to the end."""
        self._file.flush()


class WandbLog:
    """One run per job, gone on with by every attempt. Without `WANDB_API_KEY` it stays on the volume, for `wandb sync`.

    wandb's own variables (`WANDB_MODE`, …) are heeded.
    """

    def __init__(self, run: Run, project: str, directory: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise Mistake(
                "spec.logging.wandb is set, but wandb is not installed: pip install 'rljob[trainer]', or"
                " remove it."
            ) from error
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        self._run = wandb.init(
            project=project,
            name=run.name,
            id=run.uid,
            dir=str(directory),
            resume="allow" if mode == "online" else None,  # wandb refuses to resume what is offline
            mode=cast("Literal['online', 'offline', 'disabled', 'shared']", mode),
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({name: value for name, value in metrics.items() if math.isfinite(value)}, step=step)

    def close(self) -> None:
        self._run.finish()


class MetricsLog:
    """The logs that `spec.logging` asks for, as one. Goes on after step `start`."""

    def __init__(self, run: Run, directory: Path, start: int) -> None:
        self._logs: list[Log] = []
        if run.spec.logging.tensorboard:
            self._logs.append(TensorboardLog(directory, start))
        if run.spec.logging.wandb is not None:
            self._logs.append(WandbLog(run, run.spec.logging.wandb.project, directory))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for log in self._logs:
            log.write(step, metrics)

    def close(self) -> None:
        for log in self._logs:
            with dispensable("Ending the curves"):
                log.close()
