"""`spec.stall`: when a silent phase of training counts as a hang."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Spec

Seconds = Annotated[int, Field(ge=1, le=31_536_000)]


class PhaseTimeouts(Spec):
    """Longest silence of each phase in seconds. Absent: learnt, ten times the longest silence that this job has seen
    in the phase, at least 5 minutes; until it has seen one, an hour (`convert` four hours). Signs of life are an answer
    of a server, a scored sample, a micro-batch, and, where files are read or written, a megabyte."""

    convert: Seconds | None = None
    """Turning the model into Megatron's format."""
    prepare: Seconds | None = None
    """Fetching the model and the data."""
    load: Seconds | None = None
    """Loading the model and the checkpoint."""
    generate: Seconds | None = None
    """A server that answers no prompt for so long is replaced; if nobody answers for twice as long, at least 40 s
    longer, the trainers restart."""
    reward: Seconds | None = None
    """Longest time that the reward may take for one sample."""
    train: Seconds | None = None
    """Log-probabilities and the update."""
    sync: Seconds | None = None
    """Giving servers new weights. `weightSync.timeoutSeconds` finds servers that hang; the trainers restart after
    twice the limit, so that the fault is the servers' first."""
    evaluate: Seconds | None = None
    """As `generate`, for validation prompts."""
    save: Seconds | None = None
    """Writing a checkpoint, samples or curves."""
    export: Seconds | None = None
    """Writing the trained model."""


class Stall(Spec):
    """When silence counts as a hang: stacks of all ranks go to the volume, and the trainers restart, counted towards
    `failurePolicy.maxRestarts`."""

    phase_timeout_seconds: PhaseTimeouts = PhaseTimeouts()
    """Longest silence of each phase."""
