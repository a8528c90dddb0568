"""Parameters that leave the gang: whole on rank 0, to the last bit, however they are cut."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor

from rljob_trainer.backend.dtensor.gather import AHEAD, gather
from trainer.ranks import run_ranks

CUTS: dict[str, Placement] = {"rows": Shard(0), "columns": Shard(1), "copies": Replicate()}


def tensors(count: int) -> dict[str, Tensor]:
    """Of one row, a number of rows that no world divides, and more; and more tensors than may be under way."""
    rows = [1, 5, 8, 2, 7, 3, 6]
    return {f"{number}": torch.randn(rows[number % len(rows)], 4) for number in range(count)}


def gathered(world: int, cut: str, dtype: torch.dtype) -> list[bool]:
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (world,))
    there = tensors(3 * AHEAD)
    parameters = [(name, distribute_tensor(tensor, mesh, [CUTS[cut]])) for name, tensor in there.items()]
    came = list(gather([*parameters, ("plain", torch.ones(3))], dtype))
    assert [name for name, _ in came] == [*there, "plain"]
    if dist.get_rank() > 0:
        return []
    return [torch.equal(tensor, there[name].to(dtype)) for name, tensor in came[:-1]]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("world", [1, 3])
def test_rank_0_has_every_parameter_whole(world: int, cut: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert run_ranks(world, gathered, world, cut, dtype)[0] == [True] * 3 * AHEAD
