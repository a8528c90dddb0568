"""SIGTERM to one rank only, whatever it is doing: all ranks agree to stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Timer

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.preempt import Preemption
from trainer.ranks import run_ranks


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def compute(preemption: Preemption) -> None:
    matrix = torch.ones(300, 300)
    until(lambda: bool((matrix @ matrix).sum()) and preemption.requested())


def doze(preemption: Preemption) -> None:
    until(preemption.requested)


def wait_in_a_collective(_: Preemption) -> None:
    """What follows is the collective."""


ACTIVITIES = {"computing": compute, "sleeping": doze, "waiting": wait_in_a_collective}


def a_store() -> TCPStore:
    """As the trainer has it: on rank 0, with a client on every rank."""
    port: list[int] = [0]
    store = None
    if dist.get_rank() == 0:
        store = TCPStore("127.0.0.1", 0, None, is_master=True, wait_for_workers=False)
        port = [store.port]
    dist.broadcast_object_list(port)
    return store or TCPStore("127.0.0.1", port[0], None, is_master=False)


def never() -> None:
    raise AssertionError("training had begun")


def terminated(activity: str, target: int) -> bool:
    store = a_store()
    preemption = Preemption(store, dist.new_group(backend="gloo"), never)
    with preemption.preparing():
        """Nobody was told to go."""
    store.set(f"pid/{dist.get_rank()}", str(os.getpid()))
    if dist.get_rank() == 0:
        os.kill(int(store.get(f"pid/{target}")), signal.SIGTERM)
        until(preemption.requested)  # the others are blocked, computing or asleep; rank 0 knows all the same
    elif dist.get_rank() == target:
        ACTIVITIES[activity](preemption)
    try:
        preemption.agree()
    except Interrupted:
        return True
    return False


@pytest.mark.parametrize("activity", sorted(ACTIVITIES))
def test_a_rank_that_is_told_to_go_stops_all(activity: str) -> None:
    assert run_ranks(3, terminated, activity, 1) == [True, True, True]


def test_rank_0_may_be_the_one() -> None:
    assert run_ranks(2, terminated, "waiting", 0) == [True, True]


def told_while_preparing(target: int) -> bool:
    """Whether this rank gave up, in the middle of something that has no end."""
    store, given_up = a_store(), Event()
    preemption = Preemption(store, dist.new_group(backend="gloo"), given_up.set)
    dist.barrier()
    if dist.get_rank() == target:
        os.kill(os.getpid(), signal.SIGTERM)
    with suppress(RuntimeError), preemption.preparing():
        until(given_up.is_set)
        raise RuntimeError("as of a load that another has left")
    return given_up.is_set()


@pytest.mark.parametrize("target", [0, 2])
def test_whatever_the_ranks_prepare_all_give_it_up(target: int) -> None:
    assert run_ranks(3, told_while_preparing, target) == [True, True, True]


def told_when_all_are_nearly_through(rounds: int) -> list[str]:
    group, stores = dist.new_group(backend="gloo"), [a_store() for _ in range(rounds)]
    return [one_end(store, group, 0.004 * number / rounds) for number, store in enumerate(stores)]


def one_end(store: TCPStore, group: dist.ProcessGroup, late: float) -> str:
    """What became of this rank, when rank 1 was told so many seconds after it began."""
    given_up = Event()
    preemption = Preemption(store, group, given_up.set)
    dist.barrier()
    if dist.get_rank() == 1:
        Timer(late, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with preemption.preparing():
        """It is done at once."""
    if given_up.is_set():
        return "given up"
    if dist.get_rank() == 1:
        until(preemption.requested)
    with pytest.raises(Interrupted):
        preemption.agree()
    return "stopped"


def test_no_rank_gives_up_what_others_have_begun() -> None:
    """It is one or the other for all of them, whenever the signal comes."""
    first, *others = run_ranks(3, told_when_all_are_nearly_through, 8)
    assert all(other == first for other in others)


def fork_and_terminate() -> tuple[int, bool]:
    store = a_store()
    preemption = Preemption(store, dist.new_group(backend="gloo"), never)
    with preemption.preparing():
        """And then it trains."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), preemption.requested()


def test_a_forked_childs_signal_is_its_own() -> None:
    assert run_ranks(1, fork_and_terminate) == [(-signal.SIGTERM, False)]
