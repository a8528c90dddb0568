"""Hangs that are real: a stopped process, a reward without end, a volume that stands still; each is told apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rljob_api.progress import EXIT_COMPLETE, EXIT_STALLED, Ending, LastWords, TrainPhase
from trainer import hangs
from trainer.hangs import Toy, launched
from trainer.test_megatron import make_model


def hung(toy: Toy, tmp_path: Path, phase: TrainPhase, **spec: Any) -> LastWords:
    ((code, words),) = launched(toy, tmp_path, {phase.value.lower(): 2}, **spec)
    assert (code, words.ending) == (EXIT_STALLED, Ending.STALLED), words.message
    assert words.hang is not None
    assert words.hang.phase is phase
    assert f"stall.phaseTimeoutSeconds.{phase.value.lower()}" in words.message
    return words


def stack(tmp_path: Path, words: LastWords, rank: int) -> str:
    assert words.hang is not None
    return (tmp_path / "storage" / words.hang.folder / f"rank-{rank}.txt").read_text()


def test_a_stopped_rank_is_named_among_those_that_wait_for_it_in_a_collective(tmp_path: Path) -> None:
    words = hung(hangs.stops_in_the_update, tmp_path, TrainPhase.TRAIN)
    assert "the process of rank 1 is stopped" in words.message
    assert words.rank == 1
    assert "all_reduce" in stack(tmp_path, words, 0), "it hangs in C, and tells all the same"
    assert "stops_in_the_update" in stack(tmp_path, words, 1)


def test_a_rank_that_is_busy_elsewhere_is_told_from_those_that_wait_for_it(tmp_path: Path) -> None:
    words = hung(hangs.sleeps_in_the_update, tmp_path, TrainPhase.TRAIN)
    assert words.rank == 1
    assert "sleeps_in_the_update (trainer/hangs.py:" in words.message


def test_a_reward_without_end_is_told_with_its_line_and_the_sample(tmp_path: Path) -> None:
    reward = {"python": {"module": "endless_reward", "function": "score"}}
    words = hung(hangs.scores_for_ever, tmp_path, TrainPhase.REWARD, reward=reward)
    assert words.rank == 0
    assert "the reward does not return" in words.message
    assert "endless_reward.py:3" in words.message
    assert "sample 2 of 2, of prompt 7" in words.message


def test_a_volume_that_stands_still_is_told_by_the_write_that_waits(tmp_path: Path) -> None:
    words = hung(hangs.writes_for_ever, tmp_path, TrainPhase.SAVE)
    assert words.rank == 1
    assert "the volume takes nothing" in words.message
    assert "durable.py" in words.message


def hung_on_megatron(toy: Callable[..., None], tmp_path: Path, phase: TrainPhase, **spec: Any) -> LastWords:
    on_model = partial(toy, model=make_model(tmp_path / "model", "qwen3", tied=True))
    return hung(on_model, tmp_path, phase, backend="megatron", megatron={"microBatchTokens": 40}, **spec)


def test_a_rank_that_stops_inside_megatron_is_named_among_those_in_its_collectives(tmp_path: Path) -> None:
    toy = partial(hangs.hangs_within_megatron, how=hangs.stop)
    words = hung_on_megatron(toy, tmp_path, TrainPhase.TRAIN, parallelism={"tensor": 2})
    assert "the process of rank 1 is stopped" in words.message
    assert words.rank == 1
    waits, late = stack(tmp_path, words, 0), stack(tmp_path, words, 1)
    assert "all_reduce" in waits
    assert "megatron/core/tensor_parallel/mappings.py" in waits
    assert "megatron/core/transformer/transformer_block.py" in late


def test_of_megatrons_stages_the_one_that_is_busy_is_told_from_the_one_that_waits_for_it(
    tmp_path: Path,
) -> None:
    toy = partial(hangs.hangs_within_megatron, how=hangs.sleep)
    words = hung_on_megatron(toy, tmp_path, TrainPhase.TRAIN, parallelism={"pipeline": 2})
    assert words.rank == 1
    assert "sleep (trainer/hangs.py:" in words.message
    assert "megatron/core/pipeline_parallel/p2p_communication.py" in stack(tmp_path, words, 0)


@pytest.mark.parametrize("background", [False, True])
def test_a_volume_that_stands_still_under_megatrons_save_is_told_by_the_write_that_waits(
    tmp_path: Path, background: bool
) -> None:
    toy = partial(hangs.saves_within_megatron, background=background)
    words = hung_on_megatron(toy, tmp_path, TrainPhase.SAVE, parallelism={"tensor": 2})
    assert words.rank == 1
    assert "the volume takes nothing" in words.message
    assert "called from create_stream (checkpoint/shards.py:" in words.message
    assert "in gather_object" in stack(tmp_path, words, 0)


def test_a_phase_that_is_slow_but_alive_may_last(tmp_path: Path) -> None:
    ((code, words),) = launched(hangs.gets_on_slowly, tmp_path, {"train": 3})
    assert code == EXIT_COMPLETE, words.message


def test_a_node_may_wait_for_rank_0_as_long_as_that_may_take(tmp_path: Path) -> None:
    limits = {"train": 2, "generate": 30}
    ended = launched(hangs.waits_for_rank_0, tmp_path, limits, limits)
    assert [code for code, _ in ended] == [EXIT_COMPLETE] * 2, [words.message for _, words in ended]


def test_of_two_nodes_the_one_with_the_late_rank_speaks_first(tmp_path: Path) -> None:
    """Even where the other notices first."""
    (_, waits), (code, late) = launched(hangs.sleeps_in_the_update, tmp_path, {"train": 1}, {"train": 3})
    assert (code, late.ending, late.rank) == (EXIT_STALLED, Ending.STALLED, 1)
    assert "sleeps_in_the_update" in late.message
    assert waits.hang is not None
    assert "all ranks of this node wait in collectives" in waits.message
    spoke = [(tmp_path / f"node-{node}" / "termination-log").stat().st_mtime for node in (0, 1)]
    assert spoke[1] < spoke[0]
