"""Ranks that meet as in a pod, some of which die, are late, or never come; and what the others say of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from unittest import mock

import torch.distributed as dist

from ports import free_port
from rljob_api.parallelism import BackendOptions
from rljob_api.run import Run
from rljob_trainer.distributed import Ranks, join
from trainer.checkpoints import a_run
from trainer.ranks import context
from waiting import DEADLINE_SECONDS

Act = Callable[[Run, Ranks], object]


def a_gang(storage: Path, world: int, **spec: Any) -> Run:
    """A job on `world` ranks, and with more rollout servers than that."""
    run = a_run(storage, trainer={"numProcPerNode": world}, rollout={"replicas": world + 1}, **spec)
    return run.model_copy(update={"master_addr": "127.0.0.1", "master_port": free_port()})


def said(
    run: Run, ranks: Collection[int], act: Act, timeout: timedelta, *, speakers: Collection[int] | None = None
) -> dict[int, str]:
    """What became of `act` on those ranks: its result, or the error. Ranks that died are left out.

    Only `speakers` are waited for, by default all. The ranks begin together: `timeout` is theirs, and how long their
    processes take to start on a busy machine is no part of it.
    """
    heard = ranks if speakers is None else speakers
    processes, ends, started = [], {}, context().Barrier(len(ranks))
    for rank in ranks:
        process, end = _begin(partial(_live, timeout=timeout, started=started), run, rank, act)
        processes.append(process)
        if rank in heard:
            ends[end] = rank
    return _heard(processes, ends)


def said_alone(act: Callable[[], str]) -> str:
    """The same of a process without a group."""
    process, end = _begin(_live_alone, act)
    return _heard([process], {end: 0})[0]


def _begin(life: Callable[..., None], *arguments: object) -> tuple[ForkServerProcess, Connection]:
    ours, theirs = context().Pipe(duplex=False)
    process = context().Process(target=life, args=(theirs, *arguments))
    process.start()
    theirs.close()
    return process, ours


def _heard(processes: list[ForkServerProcess], ends: dict[Connection, int]) -> dict[int, str]:
    told: dict[int, str] = {}
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        for end, rank in ends.items():
            assert end.poll(max(0.0, deadline - time.monotonic())), f"rank {rank} hangs"
            with suppress(EOFError):  # it died
                told[rank] = end.recv()
    finally:
        for process in processes:
            process.kill()
            process.join()
    return told


def _live_alone(end: Connection, act: Callable[[], str]) -> None:
    end.send(act())


def lose_patience(timeout: timedelta) -> None:
    """In a rank: from now on it waits so long for the others, in what it does and in the groups that there are. What it
    did before, as to import Megatron, may take longer on a busy machine."""
    _be_patient_for(timeout)
    for group in dist.distributed_c10d._world.pg_map:
        dist.distributed_c10d._set_pg_timeout(timeout, group)


def _be_patient_for(timeout: timedelta) -> None:
    knob: Any = mock.PropertyMock(return_value=timeout)  # whose unit is minutes
    mock.patch.object(BackendOptions, "distributed_timeout", knob).start()


def _live(end: Connection, run: Run, rank: int, act: Act, *, timeout: timedelta, started: Barrier) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    _be_patient_for(timeout)
    started.wait(DEADLINE_SECONDS)
    try:
        result = str(act(run, join(run, rank, rank)))
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    end.send(result)
    if "Error" not in result:
        signal.pause()  # until it is killed: nobody leaves while another still talks to it
    os._exit(1)
