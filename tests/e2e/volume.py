"""What a job left on its volume, for comparisons: curves, samples and weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Volume:
    """A job's directory on it."""

    root: Path

    def losses(self) -> dict[int, float]:
        """Step → loss."""
        return self.curve("loss")

    def curve(self, name: str) -> dict[int, float]:
        """Step → a metric, from the curves."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        # That a step was done again after a kill is what is looked at here: no news.
        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        events = EventAccumulator(str(self.root / "tensorboard"))
        events.Reload()
        return {event.step: event.value for event in events.Scalars(name)}

    def samples(self) -> dict[int, str]:
        """Step → everything that was drawn in it."""
        paths = (self.root / "samples").glob("step_*.jsonl")
        return {int(path.stem.removeprefix("step_")): path.read_text() for path in paths}

    def weights(self) -> bytes:
        """The exported weights."""
        return (self.root / "export" / "model.safetensors").read_bytes()


def differences(one: Volume, other: Volume) -> list[str]:
    """What is not the same, bit for bit."""
    same = {
        "losses": one.losses() == other.losses(),
        "samples": one.samples() == other.samples(),
        "weights": one.weights() == other.weights(),
    }
    return [what for what, equal in same.items() if not equal]
