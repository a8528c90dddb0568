"""SIGTERM to any rank becomes one decision of all ranks.

The signal is noted by a thread, not by a Python signal handler: a handler runs only between two bytecodes of
the main thread, and that may sit in a collective for minutes. The thread tells rank 0 through the rendezvous
store, past the blocked collective; rank 0 cuts generation short, and all ranks meet in `agree`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from threading import Event, Thread

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store

from rljob_trainer.backend.protocol import Interrupted

KEY = "rljob/preempted"
POLL_SECONDS = 0.25
"""How often rank 0 asks the store: one small request, while a grace period is minutes."""


class Preemption:
    """Notes SIGTERM from now on. Made in the main thread; a process forked from here does not inherit it."""

    def __init__(self, store: Store, group: dist.ProcessGroup) -> None:
        """`group` is what the ranks agree over; it takes CPU tensors, and waits as long as rank 0 may generate."""
        self._store = store.clone()  # type: ignore[attr-defined]  # missing in torch's stubs
        self._group = group
        self._leads = group.rank() == 0
        self._noted = Event()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # Last: what came between a handler that does nothing and the descriptor would be swallowed.
        signal.signal(signal.SIGTERM, lambda *_: None)
        os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget)
        Thread(target=self._watch, daemon=True, name="preemption").start()

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
        while not self._signalled():
            if self._leads and self._store.check([KEY]):
                break
        self._noted.set()
        if not self._leads:
            self._store.set(KEY, "1")

    def _signalled(self) -> bool:
        """Wait for SIGTERM; rank 0 looks up now and then."""
        ready, _, _ = select.select([self._reader], [], [], POLL_SECONDS if self._leads else None)
        return bool(ready) and signal.SIGTERM in self._reader.recv(64)


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
