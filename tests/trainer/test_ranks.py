"""The harness itself: a test that cannot fail proves nothing."""

from __future__ import annotations

import os
import pickle
import signal
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest
import torch
import torch.distributed as dist

from trainer.ranks import RankFailedError, collect, run_ranks


def add_up(start: int) -> int:
    value = torch.tensor(start + dist.get_rank())
    dist.all_reduce(value)
    return int(value)


def fail_on_rank_1() -> None:
    if dist.get_rank() == 1:
        raise ValueError("the cause")
    dist.barrier()


def die_on_rank_1() -> None:
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def hang() -> None:
    if dist.get_rank() == 0:
        signal.pause()


def test_ranks_meet_and_return_by_rank() -> None:
    assert run_ranks(2, add_up, 10) == [21, 21]


def test_a_failing_rank_is_shown_with_its_traceback() -> None:
    with pytest.raises(RankFailedError, match=r"rank 1 failed:(.|\n)*ValueError: the cause"):
        run_ranks(2, fail_on_rank_1)


def test_the_cause_is_told_even_if_who_failed_for_it_is_heard_at_the_same_moment() -> None:
    ends: dict[Connection, int] = {}
    for rank, told in enumerate(["Connection closed by peer", "the cause"]):
        ours, theirs = Pipe(duplex=False)
        with theirs:
            theirs.send_bytes(pickle.dumps((False, told)))
        ends[ours] = rank
    with pytest.raises(RankFailedError, match=r"rank 1 failed:\nthe cause"):
        collect(ends, time.monotonic() + 60)


def test_a_killed_rank_is_noticed_at_once() -> None:
    with pytest.raises(RankFailedError, match=r"rank 1 died|rank 0 failed:(.|\n)*[Cc]onnection"):
        run_ranks(2, die_on_rank_1, deadline=60)


def test_a_hanging_rank_ends_at_the_deadline() -> None:
    with pytest.raises(RankFailedError, match="not done in time"):
        run_ranks(1, hang, deadline=5)
