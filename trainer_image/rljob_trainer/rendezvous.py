"""Where ranks meet before there is a process group: a store on rank 0, and a list of those that have come.

Left to itself, torch says of a rank that never comes that something timed out; here it is named.
"""

from __future__ import annotations

import socket
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore
from torch.distributed import DistError

from rljob_api.run import Run

HEAD_START = timedelta(seconds=5)


class AbsentRanksError(Exception):
    """Ranks that never came; the message names them."""


def meet(run: Run, rank: int, timeout: timedelta) -> TCPStore:
    """The store, once all ranks have come. Raises `AbsentRanksError` after `timeout`.

    Rank 0 has the store, so the others wait a little longer: it is the first to tell who is missing.
    """
    patience = timeout + (timedelta() if rank == 0 else HEAD_START)
    ranks = range(run.spec.trainer.world_size)
    try:
        store = _open(run, rank, patience)
        store.set(_place(rank), "")
        store.wait([_place(one) for one in ranks], patience)
    except DistError as error:
        missing = [one for one in ranks if not store.check([_place(one)])] if rank == 0 else [0]
        raise AbsentRanksError(_sentence(run, missing, timeout)) from error
    return store


def _sentence(run: Run, missing: list[int], timeout: timedelta) -> str:
    names = f"rank{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
    return (
        f"The ranks did not meet: {names} did not come to {run.master_addr}:{run.master_port} within"
        f" {timeout.total_seconds():g} s. Look at the pods that run them. If they only start slowly, raise"
        " distributedTimeoutMinutes."
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
