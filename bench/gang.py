"""The trainer's ranks inside a benchmark: forked as the tests fork them, with the trainer's own groups and loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from functools import partial

import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from rljob_api.progress import EXIT_PREEMPTED
from rljob_api.run import Run
from rljob_trainer.batch import Batch
from rljob_trainer.distributed import LEADER_TIMEOUT, Ranks
from rljob_trainer.loop import Loop
from rljob_trainer.preempt import Preemption
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.train import prepare


def ranks_here() -> Ranks:
    """What `distributed.join` gives, over the process group that `run_ranks` made."""
    store = TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), None, is_master=False)
    control = dist.new_group(backend="gloo", timeout=LEADER_TIMEOUT)
    return Ranks(dist.get_rank(), dist.get_rank(), dist.get_world_size(), store, control)


class WatchedLoop(Loop):
    """The loop itself; it remembers the last batch that it trained on."""

    batch: Batch

    def with_logprobs(self, batch: Batch) -> Batch:
        self.batch = super().with_logprobs(batch)
        return self.batch

    def whole_step(self) -> float:
        """Seconds of a step with the weights pushed after it, on all ranks."""
        return together(self.ranks, self._step_and_push)

    def _step_and_push(self) -> None:
        self.step()
        self.push_weights()


@contextmanager
def loop_here(run: Run) -> Iterator[WatchedLoop]:
    """This rank's loop, built as the trainer builds it, with its first weights pushed."""
    ranks = ranks_here()
    with ExitStack() as open_things:
        preemption = Preemption(ranks.store, ranks.control, partial(os._exit, EXIT_PREEMPTED))
        with preemption.preparing():
            prepared = prepare(run, ranks, ProgressBoard(run), preemption, open_things)
        loop = WatchedLoop(**{each.name: getattr(prepared, each.name) for each in fields(prepared)})
        loop.push_weights()
        yield loop


def together(ranks: Ranks, act: Callable[[], object]) -> float:
    """Seconds until all ranks are done, from when all were ready. They wait as long as rank 0 may take."""
    dist.barrier(ranks.control)
    started = time.monotonic()
    act()
    dist.barrier(ranks.control)
    return time.monotonic() - started
