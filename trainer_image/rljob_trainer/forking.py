"""What a process sees to before it imports what its forks share."""

from __future__ import annotations

import os


def leave_cuda_alone() -> None:
    """Have torch count GPUs by asking NVML, from now on and in all forks.

    Megatron asks whether there is CUDA while it is imported. Torch's own way to find out is to ask the driver, which
    then cannot be used in a fork: each rank would die of "Cannot re-initialize CUDA in forked subprocess".
    """
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
