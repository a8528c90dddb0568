"""Work that ranks do together and fail at together: a rank in trouble never leaves the others waiting for it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from rljob_trainer.errors import Mistake

from .durable import StorageError
from .fence import FencedError

T = TypeVar("T")
HEAD_START = timedelta(seconds=5)
MISSING = re.compile(r"Rank (\d+) failed to pass monitoredBarrier")


class SaveError(Exception):
    """A checkpoint could not be written, for a reason of its own; the message names the rank."""


class AbsentRankError(SaveError):
    """A rank has died, or did not come in time. No more can be done together."""


class _Kind(Enum):
    """Errors that keep their meaning on the way to other ranks, the more telling first."""

    FENCED = FencedError
    MISTAKE = Mistake
    STORAGE = StorageError
    OTHER = SaveError


@dataclass(frozen=True)
class _Trouble:
    kind: _Kind
    message: str


@dataclass(frozen=True)
class Team:
    """Some ranks and a process group of their own, so that a background thread may talk while training does."""

    group: dist.ProcessGroup
    timeout: timedelta = dist.default_pg_timeout
    """Longest wait for a rank."""

    @property
    def rank(self) -> int:
        return self.group.rank()

    @property
    def size(self) -> int:
        return self.group.size()

    def each(self, act: Callable[[], T]) -> list[T]:
        """Run `act` on every rank and give everybody all results, by rank. If any rank fails, all raise the same.

        Raises `AbsentRankError` if a rank is not there to tell.
        """
        begun = time.monotonic()
        mine = self._tried(act)
        spent = timedelta(seconds=time.monotonic() - begun)
        # Who failed has often waited for the same rank already, in a collective of the act's own.
        self._meet(max(HEAD_START, self.timeout - spent) if isinstance(mine, _Trouble) else self.timeout)
        outcomes: list[T | _Trouble] = [mine] * self.size
        dist.all_gather_object(outcomes, mine, group=self.group)
        troubles = [outcome for outcome in outcomes if isinstance(outcome, _Trouble)]
        if troubles:
            worst = min(troubles, key=lambda trouble: list(_Kind).index(trouble.kind))
            raise worst.kind.value(worst.message)
        return [outcome for outcome in outcomes if not isinstance(outcome, _Trouble)]

    def first(self, act: Callable[[], T]) -> T:
        """Run `act` on rank 0 alone and give everybody its result."""
        return cast("T", self.each(lambda: act() if self.rank == 0 else None)[0])

    def all(self, mine: bool) -> bool:
        """Whether it is true on every rank."""
        return all(self.each(lambda: mine))

    def _meet(self, patience: timedelta) -> None:
        """Rank 0 finds out who is missing. The others wait a little longer, so that it is the first to tell."""
        limit = patience + (timedelta() if self.rank == 0 else HEAD_START)
        try:
            dist.monitored_barrier(self.group, limit)
        except RuntimeError as error:
            raise AbsentRankError(f"Saving a checkpoint failed: {self._absent(str(error))}") from error

    def _absent(self, error: str) -> str:
        missing = MISSING.search(error)
        rank = missing[1] if missing else self._unreachable()
        if rank is None:
            return "rank 0 gave it up; its last words say why."
        if missing and "Timed out" in error:
            late = f"did not come within {self.timeout.total_seconds():g} s"
            block = "the backend's block, spec.dtensor or spec.megatron"
            return f"rank {rank} {late}. If it is only slow, raise distributedTimeoutMinutes in {block}."
        return f"rank {rank} has died; its own pod says why."

    def _unreachable(self) -> int | None:
        """A rank whose connection is known to be closed, as rank 0 sees it: the barrier then names none."""
        if self.rank == 0:
            for rank in range(1, self.size):
                try:  # nobody will receive it: all are about to leave
                    dist.isend(torch.zeros(1), group=self.group, group_dst=rank)
                except RuntimeError:
                    return rank
        return None

    def _tried(self, act: Callable[[], T]) -> T | _Trouble:
        try:
            return act()
        except (FencedError, Mistake, StorageError) as error:
            return _Trouble(_Kind(type(error)), str(error))
        except Exception as error:
            logging.exception("Nobody foresaw this error; all ranks hear of it in one sentence")
            return _Trouble(_Kind.OTHER, f"rank {self.rank}: {type(error).__name__}: {error}")
