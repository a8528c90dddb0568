"""SIGTERM to any rank becomes one decision of all ranks.

The signal is noted by a thread, not by a Python signal handler: a handler runs only between two bytecodes of
the main thread, and that may sit in a collective for minutes. The thread tells rank 0 through the rendezvous
store, past the blocked collective; rank 0 cuts generation short, and all ranks meet in `agree`.

While the attempt prepares there is nothing to save, and what it waits for cannot be cut short: a download, a load. Then
the threads of all ranks hear of it and end their processes. Which of the two it is stands in the store, where it is
written once: ranks do not begin to train at the same moment.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store

from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.distributed import LeaderFailedError
from rljob_trainer.errors import Mistake, Unmet

KEY = "rljob/preempted"
STAGE, TRAINING, GIVEN_UP = "rljob/stage", b"training", b"given up"
"""What became of the preparation, once that is decided."""
KNOWN = "rljob/known"
"""How many ranks know that it was given up."""
POLL_SECONDS = 0.25
"""How often rank 0, and all ranks while they prepare, ask the store: one small request; a grace period is minutes."""
KNOWN_SECONDS = 5.0
"""Longest wait until all ranks know: one may be in the middle of something that stops its threads too."""


class Preemption:
    """Notes SIGTERM from now on. Made in the main thread; a process forked from here does not inherit it."""

    def __init__(self, store: Store, group: dist.ProcessGroup, give_up: Callable[[], None]) -> None:
        """`group` is what the ranks agree over; it takes CPU tensors, and waits as long as rank 0 may generate.

        `give_up` ends the process; a thread calls it if any rank is told to go before all are through `preparing`.
        """
        self._store = store.clone()  # type: ignore[attr-defined]  # missing in torch's stubs
        self._group = group
        self._leads = group.rank() == 0
        self._size = group.size()
        self._give_up = give_up
        self._noted = Event()
        self._trains = Event()
        self._knows = Event()
        self._alone = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # Last: what came between a handler that does nothing and the descriptor would be swallowed.
        signal.signal(signal.SIGTERM, lambda *_: None)
        os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget)
        self._watcher = Thread(target=self._watch, daemon=True, name="preemption")
        self._watcher.start()

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Around what comes before training; collective at its end. A rank that fails because another has given up does
        not come out of it.
        """
        try:
            yield
            self.agree()
            given_up = self._decide(TRAINING) == GIVEN_UP
        except (Mistake, Unmet, LeaderFailedError):
            raise  # it is so, whoever gave up; and rank 0, which knows it too and has the store, may be gone already
        except Exception:  # of any other kind: another rank that gave up may be behind it
            given_up = self._stage() == GIVEN_UP
            if not given_up:
                raise
        if given_up:
            self._watcher.join()  # which ends the process
        self._trains.set()

    def requested(self) -> bool:
        """Whether this rank should stop what it does alone. Free; on rank 0 it covers all ranks, a moment later."""
        return self._noted.is_set()

    def poll(self) -> None:
        """Raise `Interrupted` if `requested`: for what rank 0 does alone. Not collective."""
        if self.requested():
            raise Interrupted

    def agree(self) -> None:
        """Collective; raises `Interrupted` on all ranks if any of them was told to go.

        Ranks that wait for rank 0's generation wait here, so that all are in it at the same boundary.
        """
        flag = torch.tensor([int(self.requested())])
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        if flag.item():
            self._noted.set()
            raise Interrupted

    def _watch(self) -> None:
        while not self._signalled() and not self._told():
            pass
        if self._gives_up():
            self._knows.set()
            self._wait_until_known()
            return self._give_up()
        self._noted.set()
        if not self._leads:
            self._store.set(KEY, "1")
        return None

    def _signalled(self) -> bool:
        """Wait for SIGTERM; who also hears of it from others looks up now and then."""
        listens = self._leads or not self._trains.is_set()
        ready, _, _ = select.select([self._reader], [], [], POLL_SECONDS if listens else None)
        return bool(ready) and signal.SIGTERM in self._reader.recv(64)

    def _told(self) -> bool:
        """Whether another rank was."""
        if self._trains.is_set():
            return self._leads and bool(self._store.check([KEY]))
        return self._stage() == GIVEN_UP

    def _stage(self) -> bytes:
        """Empty while that is open, and once rank 0 is gone, of which the main thread hears too."""
        if self._knows.is_set():
            return GIVEN_UP  # rank 0 goes as soon as all know it, and the store with it
        try:
            there = not self._alone and self._store.check([STAGE])
            return bytes(self._store.get(STAGE)) if there else b""
        except RuntimeError:
            self._alone = True  # each question that is lost is told at length on stderr
            return b""

    def _decide(self, stage: bytes) -> bytes:
        """What it is from now on: `stage`, unless another rank was before."""
        return bytes(self._store.compare_set(STAGE, "", stage.decode()))

    def _gives_up(self) -> bool:
        """Whether what there is to leave is the preparation. Without rank 0 it will come to no training."""
        with suppress(RuntimeError):
            return not self._trains.is_set() and self._decide(GIVEN_UP) == GIVEN_UP
        return True

    def _wait_until_known(self) -> None:
        """By all ranks, so that none takes the end of another for a failure."""
        deadline = time.monotonic() + KNOWN_SECONDS
        with suppress(RuntimeError):  # rank 0, which has the store, knows it of all and has gone
            self._store.add(KNOWN, 1)
            while self._store.add(KNOWN, 0) < self._size and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS / 10)


def _hold() -> None:
    """Before a fork: the child must not take a SIGTERM with its parent's eyes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _forget() -> None:
    """In a forked child: its SIGTERM is its own."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _release()
