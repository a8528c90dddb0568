"""`spec.logging`: where curves go."""

from __future__ import annotations

from pydantic import Field

from .base import KeyReference, Spec


class Wandb(Spec):
    """Weights & Biases; without `WANDB_API_KEY` in the environment a run stays on the volume, for `wandb sync`."""

    project: str = Field(min_length=1, max_length=128)
    """Project of the run."""
    secret_ref: KeyReference | None = None
    """Secret of the job's namespace with the key for its API. `rljob run` takes your own instead."""


class Logging(Spec):
    """Where curves go."""

    tensorboard: bool = True
    """Write TensorBoard event files beside the checkpoints."""
    wandb: Wandb | None = None
    """Send metrics to Weights & Biases."""
