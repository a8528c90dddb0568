"""R2: a rank that does not take part ends in a sentence that names it, within the timeout, and never in a hang.

Upstream, rollout ranks and dead ranks left the others in a collective of the save for ever.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from requirements.gangs import a_gang, said, said_alone
from rljob_api.manifest import FileEntry
from rljob_api.run import Run
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.convert.world import ConversionError, run_world
from rljob_trainer.distributed import Ranks
from trainer.checkpoints import FileBackend, a_saver
from trainer.ranks import RankFailedError, run_ranks

SHORT, LONG = timedelta(seconds=5), timedelta(seconds=60)


def size_of_default_group(_run: Run, _ranks: Ranks) -> int:
    return dist.get_world_size()


def test_the_default_group_holds_the_training_ranks_and_no_rollouts(tmp_path: Path) -> None:
    run = a_gang(tmp_path, 2)
    assert run.spec.rollout.replicas == 3
    assert said(run, range(2), size_of_default_group, LONG) == {0: "2", 1: "2"}


@pytest.mark.parametrize("absent", [1, 2])
def test_a_rank_that_never_arrives_is_named(tmp_path: Path, absent: int) -> None:
    run = a_gang(tmp_path, 3)
    told = said(run, {0, 1, 2} - {absent}, size_of_default_group, SHORT)
    here = f"{run.master_addr}:{run.master_port}"
    assert told[0].startswith(
        f"AbsentRanksError: The ranks did not meet: rank {absent} did not come to {here} within 5 s."
    )
    assert "AbsentRanksError" in told[3 - absent], "the others do not hang either"


def test_a_leader_that_never_arrives_is_named(tmp_path: Path) -> None:
    told = said(a_gang(tmp_path, 2), [1], size_of_default_group, SHORT)
    assert "The ranks did not meet: rank 0 did not come to" in told[1]


def save_where_rank_1(run: Run, ranks: Ranks, does: Callable[[], object]) -> int:
    """A save of all ranks in which rank 1 does that before it writes; the step that was saved."""
    storage = ranks.from_leader(lambda: open_storage(run))
    backend = FileBackend(before=does if ranks.rank == 1 else lambda: None)
    return a_saver(run, backend, storage).save(LoopState(step=2), rng=0).manifest.step


def save_with_a_dead_rank(run: Run, ranks: Ranks) -> int:
    return save_where_rank_1(run, ranks, lambda: os.kill(os.getpid(), signal.SIGKILL))


def save_with_a_stopped_rank(run: Run, ranks: Ranks) -> int:
    return save_where_rank_1(run, ranks, lambda: os.kill(os.getpid(), signal.SIGSTOP))


def save_with_a_slow_rank(run: Run, ranks: Ranks) -> int:
    return save_where_rank_1(run, ranks, lambda: time.sleep(1))


def test_a_rank_that_dies_in_the_save_is_named_at_once(tmp_path: Path) -> None:
    told = said(a_gang(tmp_path, 3), range(3), save_with_a_dead_rank, LONG)
    assert told[0] == ("AbsentRankError: Saving a checkpoint failed: rank 1 has died; its own pod says why.")
    assert told.keys() == {0, 2}
    assert told[2].startswith("AbsentRankError: Saving a checkpoint failed: rank 0 gave it up")
    assert list((tmp_path / "checkpoints").iterdir()) == [], "no draft is left"


def test_a_rank_that_stands_still_in_the_save_is_named_within_the_timeout(tmp_path: Path) -> None:
    told = said(a_gang(tmp_path, 2), range(2), save_with_a_stopped_rank, SHORT, speakers=[0])
    assert told == {
        0: "AbsentRankError: Saving a checkpoint failed: rank 1 did not come within 5 s. If it is only slow, "
        "raise distributedTimeoutMinutes."
    }


def test_a_rank_may_be_slow_within_the_timeout(tmp_path: Path) -> None:
    assert said(a_gang(tmp_path, 2), range(2), save_with_a_slow_rank, LONG) == {0: "2", 1: "2"}


def convert_and(does: Callable[[], object]) -> str:
    """What is said of a conversion on two ranks, of which the second does that."""

    def work(tell: Callable[[int, str], None]) -> list[FileEntry]:
        tell(10, "layer 3")
        if dist.get_rank() == 1:
            does()
        dist.barrier()
        return []

    with pytest.raises(ConversionError) as error:
        run_world(2, work, lambda _: None, timeout=LONG, stall=SHORT)
    return str(error.value)


def die_in_the_conversion() -> str:
    return convert_and(lambda: os.kill(os.getpid(), signal.SIGKILL))


def stop_in_the_conversion() -> str:
    return convert_and(lambda: os.kill(os.getpid(), signal.SIGSTOP))


def test_a_rank_that_dies_in_the_conversion_is_named() -> None:
    told = said_alone(die_in_the_conversion)
    assert "rank 1 of the conversion was ended by SIGKILL" in told
    assert "layer 3" in told


def test_a_rank_that_stands_still_in_the_conversion_is_named() -> None:
    told = said_alone(stop_in_the_conversion)
    assert "the conversion has not moved for 5 s" in told
    assert "rank 1: layer 3" in told


def save_by_megatron(directory: Path, savers: int) -> str:
    """Megatron's save by the first so many ranks of the default group; the others do not know of it."""
    from megatron.core.dist_checkpointing.mapping import ShardedTensor

    from rljob_trainer.backend.megatron import checkpoint

    writers = dist.new_group(list(range(savers)))
    if dist.get_rank() >= savers:
        signal.pause()
    weight = ShardedTensor.from_rank_offsets("weight", torch.ones(4), replica_id=dist.get_rank())
    alone = checkpoint.CheckpointOptions(fully_parallel_save=False)
    checkpoint.save({"weight": weight}, directory, alone, writers, background=False)
    return "saved"


def test_without_a_world_of_its_own_a_save_hangs_on_ranks_that_do_not_take_part(tmp_path: Path) -> None:
    """Negative control: upstream's deadlock. Megatron validates a save by a collective of the default group."""
    for folder in ("alone", "beside"):
        (tmp_path / folder).mkdir()
    assert run_ranks(2, save_by_megatron, tmp_path / "alone", 2) == ["saved", "saved"]
    with pytest.raises(RankFailedError, match=r"rank\(s\) \[0, 1, 2\] were not done in time"):
        run_ranks(3, save_by_megatron, tmp_path / "beside", 2, deadline=12)
