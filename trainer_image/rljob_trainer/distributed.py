"""The training ranks as one gang: how they meet, and how one of them speaks for all.

The default process group holds training ranks only, by construction: rollout servers join a group of their own for
weight sync. Whatever rank 0 does alone (asking vLLM, scoring, touching the volume) goes through `from_leader`, so that
its result, its mistake or its interruption reaches every rank and nobody is left waiting in a collective. What each
node needs for itself goes through `from_node_leaders`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from rljob_api.run import Run
from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.rendezvous import meet

T = TypeVar("T")

LEADER_TIMEOUT = timedelta(hours=24)
"""How long ranks wait for what rank 0 does alone. Long, because a dead rank is noticed by its launcher at once, and
how long generation may take is no business of a collective."""


class LeaderFailedError(RuntimeError):
    """Rank 0, or the first rank of a node, failed; this rank only follows it."""


Told = tuple[Literal["ok", "interrupted", "failed"], object]
"""How it came out, for the other ranks; with the result, nothing, or a sentence."""


@dataclass(frozen=True)
class _Attempt(Generic[T]):
    told: Told
    error: Exception | None = None

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return cast("T", self.told[1])


def _attempt(make: Callable[[], T]) -> _Attempt[T]:
    try:
        return _Attempt(("ok", make()))
    except Interrupted as interrupted:
        return _Attempt(("interrupted", None), interrupted)
    except Exception as failure:
        told = f"rank {dist.get_rank()} failed: {type(failure).__name__}: {failure}"
        return _Attempt(("failed", told), failure)


def from_first(make: Callable[[], T], group: dist.ProcessGroup) -> T:
    """What `make()` gives on the first rank of `group`, on all of them. Collective.

    Raises on every rank if it raises on the first: there the error itself, elsewhere `LeaderFailedError`;
    `Interrupted` stays what it is everywhere.
    """
    mine = _attempt(make) if group.rank() == 0 else None
    told = [mine.told if mine else None]
    dist.broadcast_object_list(told, group_src=0, group=group)
    if mine:
        return mine.result()
    return cast("T", _followed(told))


def _followed(told: Sequence[Told | None]) -> object:
    """The last result among what others told (None: had no part in it). Raises what kept the first of them."""
    result: object = None
    for how, value in filter(None, told):
        match how:
            case "interrupted":
                raise Interrupted
            case "failed":
                raise LeaderFailedError(str(value))
            case "ok":
                result = value
    return result


@dataclass(frozen=True)
class Ranks:
    """This rank's view of the gang."""

    rank: int
    local_rank: int
    world: int
    store: TCPStore
    """For side channels: the preemption flag travels here, past blocked collectives."""
    control: dist.ProcessGroup
    """A gloo group with a long timeout, for `from_leader`."""
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around the time that this rank waits for what another does alone."""

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def from_leader(self, make: Callable[[], T]) -> T:
        """What `make()` gives on rank 0, on every rank, as `from_first` does. Collective."""
        with nullcontext() if self.leads else self.waiting():
            return from_first(make, self.control)

    def from_node_leaders(self, make: Callable[[], T]) -> T:
        """What `make()` gives on the first rank of each node, on all ranks of that node. Collective.

        Raises on every rank if it raises on any node, as `from_leader` does.
        """
        mine = _attempt(make) if self.local_rank == 0 else None
        told: list[Told | None] = [None] * self.world
        with self.waiting():
            dist.all_gather_object(told, mine.told if mine else None, group=self.control)
        if mine:
            mine.result()
        _followed(told)
        return cast("T", _followed(told[self.rank - self.local_rank :][:1]))

    def gathered(self, mine: T) -> list[T]:
        """`mine` of every rank, by rank. Collective."""
        every: list[T | None] = [None] * self.world
        with self.waiting():
            dist.all_gather_object(every, mine, group=self.control)
        return cast("list[T]", every)

    def on_leader(self, make: Callable[[], T]) -> T | None:
        """As `from_leader`, for what is of no use elsewhere or cannot travel: None on the other ranks."""
        kept: list[T] = []
        self.from_leader(lambda: kept.append(make()))
        return kept[0] if kept else None


def join(
    run: Run, rank: int, local_rank: int, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Ranks:
    """Meet the other ranks at `run.master_addr` and make the default process group.

    Raises `AbsentRanksError` if they do not come.
    """
    world = run.spec.trainer.world_size
    timeout = run.spec.backend_options.distributed_timeout
    store = meet(run, rank, timeout or dist.default_pg_timeout)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(world))
    if run.spec.on_gpu:
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if run.spec.on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    control = dist.new_group(backend="gloo", timeout=LEADER_TIMEOUT)
    return Ranks(rank, local_rank, world, store, control, waiting)
