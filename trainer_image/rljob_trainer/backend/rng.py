"""This rank's random streams: Python, NumPy, torch, and CUDA where there is a device."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RngState:
    """A copy of all streams at one moment."""

    python: tuple[Any, ...]
    """As `random.getstate` gives it."""
    numpy: dict[str, Any] | tuple[Any, ...]
    """As `numpy.random.get_state` gives it."""
    torch: Tensor
    cuda: Tensor | None


def seed_rank(seed: int, rank: int) -> None:
    """Give each rank streams of its own: dropout must differ between data-parallel replicas and between heads."""
    random.seed(f"{seed}/{rank}")
    own = random.getrandbits(32)
    np.random.seed(own)
    torch.manual_seed(own)


def read_rng() -> RngState:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return RngState(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)


def write_rng(state: RngState) -> None:
    """Go on drawing from where `state` was read."""
    random.setstate(state.python)
    np.random.set_state(state.numpy)
    torch.set_rng_state(state.torch)
    if state.cuda is not None:
        torch.cuda.set_rng_state(state.cuda)
