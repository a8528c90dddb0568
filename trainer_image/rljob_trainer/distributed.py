"""The training ranks as one gang: how they meet, and how one of them speaks for all.

The default process group holds training ranks only, by construction: rollout servers join a group of their own for
weight sync. Whatever rank 0 does alone (asking vLLM, scoring, touching the volume) goes through `from_leader`, so that
its result, its mistake or its interruption reaches every rank and nobody is left waiting in a collective.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from rljob_api.run import Run
from rljob_trainer.backend.protocol import Interrupted

T = TypeVar("T")

LEADER_TIMEOUT = timedelta(hours=24)
"""How long ranks wait for what rank 0 does alone. Long, because a dead rank is noticed by its launcher at once, and
how long generation may take is no business of a collective."""


class LeaderFailedError(RuntimeError):
    """Rank 0 failed; this rank only follows it."""


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

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def from_leader(self, make: Callable[[], T]) -> T:
        """What `make()` gives on rank 0, on every rank. Collective.

        Raises on every rank if it raises on rank 0: there the error itself, elsewhere `LeaderFailedError`;
        `Interrupted` stays what it is everywhere.
        """
        error: Exception | None = None
        outcome: list[object] = [None, None]
        if self.leads:
            try:
                outcome = ["ok", make()]
            except Interrupted as interrupted:
                error, outcome = interrupted, ["interrupted", None]
            except Exception as failure:
                error, outcome = failure, ["failed", f"{type(failure).__name__}: {failure}"]
        dist.broadcast_object_list(outcome, src=0, group=self.control)
        if error is not None:
            raise error
        match outcome[0]:
            case "interrupted":
                raise Interrupted
            case "failed":
                raise LeaderFailedError(str(outcome[1]))
            case _:
                return cast("T", outcome[1])

    def on_leader(self, make: Callable[[], T]) -> T | None:
        """As `from_leader`, for what is of no use elsewhere or cannot travel: None on the other ranks."""
        kept: list[T] = []
        self.from_leader(lambda: kept.append(make()))
        return kept[0] if kept else None


def join(run: Run, rank: int, local_rank: int) -> Ranks:
    """Meet the other ranks at `run.master_addr` and make the default process group."""
    world = run.spec.trainer.world_size
    minutes = run.spec.backend_options.distributed_timeout_minutes
    timeout = timedelta(minutes=minutes) if minutes else None
    store = _meet(run, rank, timeout or dist.default_pg_timeout)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(world))
    if run.spec.on_gpu:
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if run.spec.on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    control = dist.new_group(backend="gloo", timeout=LEADER_TIMEOUT)
    return Ranks(rank, local_rank, world, store, control)


def _meet(run: Run, rank: int, timeout: timedelta) -> TCPStore:
    """The rendezvous store. Rank 0 listens on its own address alone: left to itself, torch listens on all of them."""
    listener = socket.create_server((run.master_addr, run.master_port)) if rank == 0 else None
    return TCPStore(
        run.master_addr,
        run.master_port,
        run.spec.trainer.world_size,
        is_master=rank == 0,
        timeout=timeout,
        wait_for_workers=False,
        master_listen_fd=listener.detach() if listener else None,  # the store closes it
    )
