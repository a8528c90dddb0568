"""Where ranks meet before there is a process group: a store on rank 0, and a list of those that have come.

Left to itself, torch says of a rank that never comes that something timed out; here it is named.
"""

from __future__ import annotations

import socket
import time
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore
from torch.distributed import DistError, DistStoreError

from rljob_api.run import Run

HEAD_START = timedelta(seconds=5)
A_LOOK = timedelta(milliseconds=1)
"""The shortest wait; to torch, none at all is one without end."""


class AbsentRanksError(Exception):
    """Ranks that never came; the message names them."""


def meet(run: Run, rank: int, timeout: timedelta) -> TCPStore:
    """The store, once all ranks have come. Raises `AbsentRanksError` after `timeout`.

    Rank 0 has the store, so the others wait a little longer: it is the first to tell who is missing.
    """
    patience = timeout + (timedelta() if rank == 0 else HEAD_START)
    try:
        store = _open(run, rank, patience)
    except DistError as error:
        raise AbsentRanksError(_sentence(run, [0], timeout)) from error
    try:
        store.set(_place(rank), "")
        missing = _missing(store, run.spec.trainer.world_size, patience)
    except DistError as error:  # the store is gone, and rank 0 with it
        raise AbsentRanksError(
            "The ranks did not meet: rank 0 gave it up; its last words say why."
        ) from error
    if missing:
        raise AbsentRanksError(_sentence(run, missing, timeout))
    return store


def _missing(store: TCPStore, world: int, patience: timedelta) -> list[int]:
    """The ranks that are not there when the time is over. Who was waited for in vain stays one of them: when asked
    again, it might have come, and the sentence would name nobody."""
    deadline = time.monotonic() + patience.total_seconds()
    return [rank for rank in range(world) if not _comes(store, rank, deadline)]


def _comes(store: TCPStore, rank: int, deadline: float) -> bool:
    left = timedelta(seconds=deadline - time.monotonic())
    try:
        store.wait([_place(rank)], max(left, A_LOOK))
    except DistStoreError:
        return False
    return True


def _sentence(run: Run, missing: list[int], timeout: timedelta) -> str:
    names = f"rank{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
    return (
        f"The ranks did not meet: {names} did not come to {run.master_addr}:{run.master_port} within"
        f" {timeout.total_seconds():g} s. Look at the pods that run them. If they only start slowly, raise"
        f" spec.{run.spec.chosen_backend}.distributedTimeoutMinutes."
    )


def _place(rank: int) -> str:
    return f"arrived/{rank}"


def _open(run: Run, rank: int, timeout: timedelta) -> TCPStore:
    """Rank 0 listens on its own address alone: left to itself, torch listens on all of them."""
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
