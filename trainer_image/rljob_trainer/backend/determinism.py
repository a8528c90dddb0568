"""The same seed shall give the same curve. Called by both backends before they build anything."""

from __future__ import annotations

import os

import torch


def prefer_determinism() -> None:
    """Deterministic kernels in this process; where one has no such form, torch warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # slow, and for debugging
