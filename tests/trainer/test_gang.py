"""One rank speaks for others: results, mistakes and interruptions reach everybody, and nobody is left waiting."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.distributed import LeaderFailedError, Ranks
from rljob_trainer.errors import Mistake
from trainer.ranks import run_ranks

RANKS_PER_NODE = 2


def this_rank() -> Ranks:
    """As if every two ranks had a node of their own."""
    rank, world = dist.get_rank(), dist.get_world_size()
    control = dist.new_group(backend="gloo")
    return Ranks(rank, rank % RANKS_PER_NODE, world, HashStore(), control)  # type: ignore[arg-type] # not used here


def outcome(make: Callable[[], object]) -> str:
    try:
        return str(make())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def speak(wrong: type[Exception] | None) -> tuple[str, str]:
    ranks = this_rank()

    def make() -> int:
        if wrong:
            raise wrong("no such model")
        return os.getpid()

    return outcome(lambda: ranks.from_leader(make)), outcome(lambda: ranks.on_leader(make))


def test_what_rank_0_found_reaches_all() -> None:
    (first, own), *others = run_ranks(3, speak, None)
    assert first == own
    assert others == [(first, "None")] * 2, "the second kind of result cannot travel"


@pytest.mark.parametrize(
    ("wrong", "there", "elsewhere"),
    [
        (Mistake, "Mistake: no such model", "LeaderFailedError: rank 0 failed: Mistake: no such model"),
        (Interrupted, "Interrupted: no such model", "Interrupted: "),
    ],
)
def test_what_kept_rank_0_from_it_reaches_all(wrong: type[Exception], there: str, elsewhere: str) -> None:
    assert run_ranks(3, speak, wrong) == [(there, there), (elsewhere, elsewhere), (elsewhere, elsewhere)]


def fetch_on_each_node(root: Path, broken_rank: int | None) -> str:
    ranks = this_rank()

    def fetch() -> Path:
        if ranks.rank == broken_rank:
            raise Mistake("the hub has no such model")
        (root / f"fetched-by-{ranks.rank}").touch()
        return root / f"node-{ranks.rank // RANKS_PER_NODE}"

    return outcome(lambda: ranks.from_node_leaders(fetch))


def test_each_node_fetches_once_for_its_own_ranks(tmp_path: Path) -> None:
    found = run_ranks(4, fetch_on_each_node, tmp_path, None)
    assert found == [str(tmp_path / f"node-{node}") for node in (0, 0, 1, 1)]
    assert sorted(path.name for path in tmp_path.glob("fetched-*")) == ["fetched-by-0", "fetched-by-2"]


def test_a_node_that_cannot_fetch_ends_the_work_of_all(tmp_path: Path) -> None:
    found = run_ranks(4, fetch_on_each_node, tmp_path, 2)
    followed = f"{LeaderFailedError.__name__}: rank 2 failed: Mistake: the hub has no such model"
    assert found == [followed, followed, "Mistake: the hub has no such model", followed]
