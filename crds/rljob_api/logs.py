"""`spec.logging`: where curves go."""

from __future__ import annotations

from pydantic import Field

from .base import Spec


class Wandb(Spec):
    """Weights & Biases; the key comes from the environment variable `WANDB_API_KEY`."""

    project: str = Field(min_length=1, max_length=128)
    """Project of the run."""


class Logging(Spec):
    """Where curves go."""

    tensorboard: bool = True
    """Write TensorBoard event files beside the checkpoints."""
    wandb: Wandb | None = None
    """Send metrics to Weights & Biases."""
