"""What stands in for CUDA is for machines without: where CUDA is, Megatron and torch stay as they are."""

from __future__ import annotations

import sys
from unittest import mock

import torch
from torch import Tensor, nn

from trainer.ranks import run_ranks


def touched(cuda: bool) -> tuple[bool, bool, bool]:
    """Whether the modules of Megatron, its random states, and methods of tensors and modules are exchanged."""
    from megatron.core.tensor_parallel import random

    from rljob_trainer.backend.megatron import cpu

    getter, methods = random._get_cuda_rng_state, (Tensor.cuda, Tensor.type, nn.Module.cuda)
    with mock.patch.object(torch.cuda, "is_available", return_value=cuda):
        cpu.adapt()
        with cpu.stand_in():
            exchanged = (Tensor.cuda, Tensor.type, nn.Module.cuda) != methods
    assert (Tensor.cuda, Tensor.type, nn.Module.cuda) == methods
    shadowed = False
    loaded = {name: module for name, module in sys.modules.items() if name.startswith("megatron.")}
    for name, module in loaded.items():
        if f"{name}.torch" not in loaded:  # some have a module of that name, which is another thing
            shadowed |= getattr(module, "torch", torch) is not torch
    return shadowed, random._get_cuda_rng_state is not getter, exchanged


def test_the_stand_ins_do_nothing_where_cuda_is() -> None:
    assert run_ranks(1, touched, True) == [(False, False, False)]
    assert run_ranks(1, touched, False) == [(True, True, True)]
