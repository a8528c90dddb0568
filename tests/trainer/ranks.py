"""Runs a function on several real ranks: forked processes that meet over gloo on loopback.

A fork server imports torch and transformers once, so that a rank starts in a second instead of twenty.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined] # public, but not in __all__

from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.forking import leave_cuda_alone
from waiting import DEADLINE_SECONDS

T = TypeVar("T")
Place = tuple[int, int, int, str]
"""Rank, world, port of the parent's store, backend."""


REPOSITORY = str(Path(__file__).parents[2])
"""pytest names test modules from here (`tests.trainer.test_x`); pickle names functions by their module."""

PRELOAD = [
    "pytest",
    "rljob_trainer.backend.dtensor.backend",
    "rljob_trainer.backend.megatron.backend",
    "rljob_trainer.convert.write",
    "torch",
    "torch.distributed.checkpoint",
    "torch.distributed.checkpoint.hf_storage",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.qwen3.modeling_qwen3",
    "tests.trainer.frozen",
]
"""Imported by the fork server. Only modules whose import changes nothing else: Megatron's stand-ins for CUDA are put in
by whoever builds a model."""


class RankFailedError(AssertionError):
    """A rank raised, died or was late; the message holds its traceback."""


def run_ranks(
    world: int,
    function: Callable[..., T],
    *args: object,
    deadline: float = DEADLINE_SECONDS,
    backend: str = "gloo",
) -> list[T]:
    """`function(*args)` on every rank of a fresh process group; what each returned, by rank.

    `function` stands at the top of a module; arguments and results are pickled. When a rank fails its
    traceback is raised here and the others, which wait for it in some collective, are killed.
    """
    forks = context()
    store = TCPStore("127.0.0.1", 0, None, is_master=True, wait_for_workers=False)
    job = pickle.dumps((function, args))
    ends: dict[Connection, int] = {}
    processes: list[ForkServerProcess] = []
    try:
        for rank in range(world):
            ours, theirs = forks.Pipe(duplex=False)
            process = forks.Process(target=_rank, args=((rank, world, store.port, backend), job, theirs))
            process.start()
            theirs.close()
            processes.append(process)
            ends[ours] = rank
        return cast("list[T]", collect(ends, time.monotonic() + deadline))
    finally:
        for process in processes:
            process.kill()
            process.join()


def context() -> ForkServerContext:
    """Of processes that start warm."""
    forks = multiprocessing.get_context("forkserver")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    leave_cuda_alone()  # as the launcher does; what is preloaded is imported when the first process starts
    forks.set_forkserver_preload(PRELOAD)
    return forks


def collect(ends: dict[Connection, int], deadline: float) -> list[Any]:
    """What each rank sends, by rank, until that time. Raises `RankFailedError`."""
    results: dict[int, Any] = {}
    while len(results) < len(ends):
        waiting = [end for end, rank in ends.items() if rank not in results]
        ready = cast("list[Connection]", wait(waiting, timeout=max(0.0, deadline - time.monotonic())))
        if not ready:
            raise RankFailedError(f"rank(s) {[ends[end] for end in waiting]} were not done in time")
        heard = {ends[end]: _heard(end) for end in ready}
        # All that are there by now: who failed for want of another may be heard at the same moment.
        if failed := [f"rank {rank} {value}" for rank, (ok, value) in heard.items() if not ok]:
            raise RankFailedError("\n".join(failed))
        results |= {rank: value for rank, (_, value) in heard.items()}
    return [results[rank] for rank in sorted(results)]


def _heard(end: Connection) -> tuple[bool, object]:
    """What a rank returned, or with False how it failed."""
    try:
        ok, value = pickle.loads(end.recv_bytes())
    except EOFError:
        return False, "died without a word"
    return (True, value) if ok else (False, f"failed:\n{value}")


def _rank(place: Place, job: bytes, end: Connection) -> None:
    """The life of a rank. Plain pickle, as torch's would leave tensors in memory that ends with the sender."""
    try:
        _join(*place)
        sys.path.append(REPOSITORY)
        function, args = pickle.loads(job)
        end.send_bytes(pickle.dumps((True, function(*args))))
        dist.barrier()  # nobody leaves while another still talks to it
        dist.destroy_process_group()
    except BaseException:
        end.send_bytes(pickle.dumps((False, traceback.format_exc())))


def _join(rank: int, world: int, port: int, backend: str) -> None:
    """Meet on the parent's store, which picked a free port by itself. `env://` would find the same one."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    torch.set_num_threads(1)
    random.seed(0)  # a forked process starts with its parent's state
    store = TCPStore("127.0.0.1", port, None, is_master=False)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)


class StopAt:
    """A backend's `Poll`, collective as in the loop: ranks that ask so often are told to stop."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, 0

    def __call__(self) -> None:
        dist.barrier()
        self.asked += 1
        if self.asked == self.count:
            raise Interrupted
