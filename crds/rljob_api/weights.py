"""`spec.weightSync`: how new weights reach vLLM after each step."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import Spec


class Transport(StrEnum):
    """How weights travel from the trainer to vLLM."""

    AUTO = "auto"
    """`nccl` on GPUs, `gloo` on CPU; the status says which."""
    NCCL = "nccl"
    """Broadcast between GPUs."""
    GLOO = "gloo"
    """Broadcast over TCP from CPU memory."""
    DISK = "disk"
    """A directory on the shared volume."""


class WeightSync(Spec):
    """How new weights reach vLLM after each step."""

    transport: Transport = Transport.AUTO
    """How they travel."""
    timeout_seconds: int = Field(600, ge=1, le=86_400)
    """Longest wait for one update of all servers."""
