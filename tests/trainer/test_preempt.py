"""SIGTERM to one rank only, whatever it is doing: all ranks agree to stop."""

from __future__ import annotations

import math
import os
import signal
from threading import Event, Timer, current_thread, main_thread

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.distributed import LeaderFailedError
from rljob_trainer.errors import Mistake, Unmet
from rljob_trainer.preempt import Preemption
from trainer.ranks import run_ranks
from waiting import until


def compute(preemption: Preemption) -> None:
    matrix = torch.ones(300, 300)
    until(lambda: bool((matrix @ matrix).sum()) and preemption.requested(), "it is told", pause_s=0.005)


def doze(preemption: Preemption) -> None:
    until(preemption.requested, "it is told")


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
        # The others are blocked, computing or asleep.
        until(preemption.requested, "rank 0 knows all the same")
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
    with preemption.preparing():
        until(given_up.is_set, "it is given up")
        raise RuntimeError("as of a load that another has left")
    return given_up.is_set()


@pytest.mark.parametrize("target", [0, 2])
def test_whatever_the_ranks_prepare_all_give_it_up(target: int) -> None:
    assert run_ranks(3, told_while_preparing, target) == [True, True, True]


BEFORE, AFTER = -math.inf, math.inf
"""In place of seconds: ahead of all that a rank prepares, and behind it."""


def told_when_all_are_nearly_through(rounds: int) -> list[str]:
    group = dist.new_group(backend="gloo")
    late = [BEFORE, *(0.004 * number / rounds for number in range(rounds)), AFTER]
    return [one_end(a_store(), group, seconds) for seconds in late]


def one_end(store: TCPStore, group: dist.ProcessGroup, late: float) -> str:
    """What became of this rank, when rank 1 was told so many seconds after it began."""
    given_up, is_target = Event(), dist.get_rank() == 1
    preemption = Preemption(store, group, given_up.set)
    dist.barrier()
    if is_target and late < AFTER:
        Timer(max(0.0, late), os.kill, (os.getpid(), signal.SIGTERM)).start()
    if is_target and late == BEFORE:
        until(given_up.is_set, "it is given up")
    with preemption.preparing():
        """It is done at once."""
    if given_up.is_set():
        return "given up"
    if is_target and late == AFTER:
        os.kill(os.getpid(), signal.SIGTERM)
    if is_target:
        until(preemption.requested, "it is told")
    with pytest.raises(Interrupted):
        preemption.agree()
    return "stopped"


def test_no_rank_gives_up_what_others_have_begun() -> None:
    """It is one or the other for all of them, whenever the signal comes."""
    first, *others = run_ranks(3, told_when_all_are_nearly_through, 8)
    assert (first[0], first[-1]) == ("given up", "stopped")
    assert others == [first, first]


class LateBehindAll(Preemption):
    """Asks what became of the preparation when rank 0, and so the store, is gone."""

    def agree(self) -> None:
        super().agree()
        if dist.get_rank() == 1:
            until(self._is_alone, "rank 0 has gone")

    def _is_alone(self) -> bool:
        try:
            self._store.num_keys()
        except RuntimeError:
            return True
        return False


def told_and_left_behind() -> bool:
    """Whether this rank gave up; rank 0 closes the store as its process would by ending."""
    store, given_up = a_store(), Event()
    preemption = LateBehindAll(store, dist.new_group(backend="gloo"), given_up.set)
    dist.barrier()
    if dist.get_rank() == 0:
        os.kill(os.getpid(), signal.SIGTERM)
    with preemption.preparing():
        until(given_up.is_set, "it is given up")
    return given_up.is_set()


def test_a_rank_that_is_late_behind_the_others_gives_up_without_an_error() -> None:
    assert run_ranks(2, told_and_left_behind) == [True, True]


class Counted(Preemption):
    """Counts how often a rank that fails asks what became of the preparation."""

    asked = 0

    def _stage(self) -> bytes:
        self.asked += current_thread() is main_thread()
        return super()._stage()


def asked_after(error: Exception) -> int:
    preemption = Counted(a_store(), dist.new_group(backend="gloo"), never)
    with pytest.raises(type(error)), preemption.preparing():
        raise error
    return preemption.asked


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (Mistake("no such model"), 0),
        (Unmet("another layout"), 0),
        (LeaderFailedError("no such model"), 0),
        (RuntimeError("of another rank that is gone, perhaps"), 1),
    ],
)
def test_a_rank_that_knows_what_is_wrong_does_not_ask_who_gave_up(error: Exception, times: int) -> None:
    """Rank 0 knows it as well, and is gone, perhaps: torch tells of a question to it on a page of C++."""
    assert run_ranks(1, asked_after, error) == [times]


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
