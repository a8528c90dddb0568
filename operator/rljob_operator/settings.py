"""What an administrator decides, not a user: which image and which program the pods run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    image: str = "rljob-trainer:latest"
    """Used by roles that name no image."""
    command: tuple[str, ...] = ("python3", "-m", "rljob_trainer")
    """The pods' program; `train` or `rollout` follows."""
