"""Whole parameters on rank 0, where they leave the gang: nobody else needs them, so nobody else gets them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

AHEAD = 4
"""Parameters under way while the caller works on the one that has come."""


def gather(parameters: Iterable[tuple[str, Tensor]], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Names and whole tensors on rank 0; on other ranks whatever they have of each. Collective."""
    under_way: deque[tuple[str, Callable[[], Tensor]]] = deque()
    for number, (name, parameter) in enumerate(parameters):
        under_way.append((name, _begin(parameter.detach(), dtype, number)))
        if len(under_way) > AHEAD:
            yield _next(under_way)
    while under_way:
        yield _next(under_way)


def _next(under_way: deque[tuple[str, Callable[[], Tensor]]]) -> tuple[str, Tensor]:
    name, arrive = under_way.popleft()
    return name, arrive()


def _begin(value: Tensor, dtype: torch.dtype, tag: int) -> Callable[[], Tensor]:
    """Start to gather; returns what waits for it."""
    if not isinstance(value, DTensor):
        return lambda: value.to(dtype)
    if value.placements != (Shard(0),):  # tensor parallel as well: not rows in the order of the ranks
        return lambda: value.full_tensor().to(dtype)
    group, mine = value.device_mesh.get_group(), value.to_local().to(dtype)
    if group.rank() == 0:
        return _receive(mine, value.shape, group, tag)
    return _send(mine, group, tag)


def _receive(mine: Tensor, shape: torch.Size, group: dist.ProcessGroup, tag: int) -> Callable[[], Tensor]:
    """Rows of all ranks, straight to where they belong. DTensor cuts like `chunk`: last ranks may have none."""
    if group.size() == 1:
        return lambda: mine
    whole = torch.empty(shape, dtype=mine.dtype, device=mine.device)
    own, *others = whole.chunk(group.size())
    works = [
        dist.irecv(rows, group=group, group_src=rank, tag=tag) for rank, rows in enumerate(others, start=1)
    ]

    def arrive() -> Tensor:
        own.copy_(mine)
        _wait(works)
        return whole

    return arrive


def _send(mine: Tensor, group: dist.ProcessGroup, tag: int) -> Callable[[], Tensor]:
    works = [dist.isend(mine, group=group, group_dst=0, tag=tag)] if len(mine) else []

    def arrive() -> Tensor:
        _wait(works)
        return mine

    return arrive


def _wait(works: list[dist.Work | None]) -> None:
    for work in works:
        assert work is not None, "this rank is in the group"
        work.wait()
