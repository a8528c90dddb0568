"""R2: a rank that does not take part ends in a sentence that names it, within the timeout, and never in a hang.

Upstream, rollout ranks and dead ranks left the others in a collective of the save for ever.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.constants import default_pg_timeout

from requirements.gangs import a_gang, lose_patience, said, said_alone
from requirements.interrupted import build
from rljob_api.manifest import FileEntry
from rljob_api.run import Run
from rljob_trainer.checkpoint import team
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.convert.world import ConversionError, run_world
from rljob_trainer.distributed import Ranks
from rljob_trainer.errors import Mistake
from trainer.checkpoints import VERSIONS, FileBackend, a_saver, alone
from trainer.test_megatron import make_model

SHORT, LONG = timedelta(seconds=5), timedelta(seconds=200)


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
    assert "rank 0 did not come" not in told[3 - absent]


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
    lose_patience(SHORT)
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
    told = said(a_gang(tmp_path, 2), range(2), save_with_a_stopped_rank, LONG, speakers=[0])
    assert told == {
        0: "AbsentRankError: Saving a checkpoint failed: rank 1 did not come within 5 s. If it is only slow, "
        "raise distributedTimeoutMinutes in the backend's block, spec.dtensor or spec.megatron."
    }


def test_a_rank_may_be_slow_within_the_timeout(tmp_path: Path) -> None:
    assert said(a_gang(tmp_path, 2), range(2), save_with_a_slow_rank, LONG) == {0: "2", 1: "2"}


def save_by_megatron_where_rank_1(
    run: Run, ranks: Ranks, *, model: Path, place: str, number: int, patience: timedelta
) -> int:
    """A save of Megatron's backend in which rank 1 sends itself that signal once it is at `place`."""
    from megatron.core import dist_checkpointing

    from rljob_trainer.backend.megatron.checkpoint import InProcessSave

    storage = ranks.from_leader(lambda: open_storage(run))
    backend = build(run.spec, model)
    lose_patience(patience)
    owner = dist_checkpointing if place == "save" else InProcessSave
    if ranks.rank == 1:
        setattr(owner, place, lambda *_, **__: os.kill(os.getpid(), number))
    saver = Saver(run, storage, backend, VERSIONS, None)
    return saver.save(LoopState(step=2), backend.rng_state()).manifest.step


MEGATRONS_PLACES = {
    "save": "before a collective that all ranks enter",
    "async_save": "after it, in the writer",
}


@pytest.mark.parametrize("place", MEGATRONS_PLACES)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "stopped"])
def test_a_rank_that_leaves_megatrons_save_is_named(
    tmp_path: Path, place: str, number: signal.Signals
) -> None:
    """Both are replicas, which share the writing: the one that is left waits for its part in a group of the two."""
    model = make_model(tmp_path / "model", "qwen3", tied=True)
    run = a_gang(tmp_path, 2, backend="megatron")
    patience = LONG if number == signal.SIGKILL else SHORT
    act = partial(save_by_megatron_where_rank_1, model=model, place=place, number=number, patience=patience)
    told = said(run, range(2), act, LONG, speakers=[0])
    fate = "has died" if number == signal.SIGKILL else "did not come within 5 s"
    assert told[0].startswith(f"AbsentRankError: Saving a checkpoint failed: rank 1 {fate}")
    assert list((tmp_path / "checkpoints").iterdir()) == [], "no draft is left"


def test_who_has_waited_for_a_rank_in_the_save_does_not_wait_as_long_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone()
    clock, limits = iter([0.0, LONG.total_seconds() - 2]), []
    monkeypatch.setattr(team.time, "monotonic", lambda: next(clock))  # type: ignore[attr-defined]  # its module
    monkeypatch.setattr(dist, "monitored_barrier", lambda _, limit: limits.append(limit))
    with pytest.raises(team.SaveError, match="Timed out"):
        team.Team(dist.new_group(backend="gloo"), LONG).first(time_out)
    assert limits == [team.HEAD_START]


def time_out() -> None:
    """As a collective does in which a rank is missing."""
    raise RuntimeError("Timed out")


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


def patience_of_a_conversion() -> str:
    """Of a rank with the others, where the caller says nothing of it."""

    def work(_tell: Callable[[int, str], None]) -> list[FileEntry]:
        gloo = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        raise Mistake(str(gloo.options._timeout))

    with pytest.raises(Mistake) as mistake:
        run_world(1, work, lambda _: None, stall=LONG)
    return str(mistake.value)


def test_the_timeout_of_a_conversion_is_that_of_torch_unless_it_is_given() -> None:
    assert said_alone(patience_of_a_conversion) == str(default_pg_timeout)


def save_by_the_first_two(
    _run: Run, ranks: Ranks, directory: Path, patience: timedelta, *, validated: bool, fully_parallel: bool
) -> str:
    """Megatron's save by ranks 0 and 1 of the default group; the others, as rollouts upstream, do not know of it."""
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.mapping import ShardedTensor
    from megatron.core.dist_checkpointing.strategies.fully_parallel import FullyParallelSaveStrategyWrapper

    from rljob_trainer.backend.megatron import cpu
    from rljob_trainer.backend.megatron.checkpoint import InProcessSave

    writers = dist.new_group([0, 1])
    if ranks.rank > 1:
        signal.pause()
    weight = ShardedTensor.from_rank_offsets("weight", torch.ones(4), replica_id=ranks.rank)
    strategy = InProcessSave(writers, background=False)
    if fully_parallel:
        strategy = FullyParallelSaveStrategyWrapper(strategy, dist.group.WORLD)
    cpu.adapt()
    lose_patience(patience)
    with cpu.stand_in():
        dist_checkpointing.save(
            {"weight": weight},
            str(directory),
            strategy,
            async_sharded_save=True,
            validate_access_integrity=validated,
        )
    return "saved"


@pytest.mark.parametrize(
    ("validated", "fully_parallel"), [(True, False), (False, True)], ids=["validated", "fully parallel"]
)
def test_with_upstreams_switches_a_save_waits_for_ranks_that_do_not_take_part(
    tmp_path: Path, validated: bool, fully_parallel: bool
) -> None:
    """Negative control: upstream's deadlock. Each of the two is a collective of all ranks."""
    saving = partial(save_by_the_first_two, validated=validated, fully_parallel=fully_parallel)
    act = partial(saving, directory=tmp_path, patience=SHORT)
    told = said(a_gang(tmp_path, 3), range(3), act, LONG, speakers=[0, 1])
    # The first that gives up closes its connections.
    assert "Timed out waiting 5000ms for" in " ".join(told.values())
    assert told.keys() == {0, 1}
    assert "saved" not in told.values()


def test_without_them_the_same_ranks_save(tmp_path: Path) -> None:
    saving = partial(save_by_the_first_two, validated=False, fully_parallel=False)
    act = partial(saving, directory=tmp_path, patience=LONG)
    assert said(a_gang(tmp_path, 3), range(3), act, LONG, speakers=[0, 1]) == {0: "saved", 1: "saved"}
