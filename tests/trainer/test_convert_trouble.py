"""The conversion among others, and among accidents: real processes, real signals, one directory."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pids import alive
from rljob_api.progress import Ending
from trainer import tiny
from trainer.converting import (
    SIZES,
    Step,
    assert_is_the_model,
    conversion_run,
    drafts,
    ended,
    entries,
)
from waiting import until


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.make_model(tmp_path / "model", "qwen3", **SIZES)


@pytest.fixture
def step(tmp_path: Path, model: Path) -> Callable[..., Step]:
    """A step on the model; all of a test share a cache."""

    def make(name: str = "first", stall_seconds: int = 600, **facts: Any) -> Step:
        return Step(tmp_path, conversion_run(tmp_path, model, stall_seconds=stall_seconds), name, **facts)

    return make


def test_two_jobs_do_the_work_once_and_the_second_says_for_whom_it_waits(
    tmp_path: Path, model: Path, step: Callable[..., Step]
) -> None:
    gate = tmp_path / "gate"
    first, second = step("first", gate=gate), step("second")
    with ended(first, second):
        first.start().reading()
        second.start().says("waiting for another process that converts local (first: 0.0 MB of ")
        gate.touch()
        assert (first.end(), second.end()) == (0, 0)
    (entry,) = entries(tmp_path / "cache")
    assert "the model is converted, in" in second.said()
    assert "converting" not in second.said()
    assert_is_the_model(entry, model)


@pytest.mark.parametrize("victim", ["parent", "parent and ranks"])
def test_whoever_waits_takes_over_from_a_holder_that_was_killed(
    tmp_path: Path, model: Path, step: Callable[..., Step], victim: str
) -> None:
    first, second = step("first", gate=tmp_path / "never"), step("second")
    with ended(first, second):
        ranks = first.start().reading()
        second.start().says("waiting for another process")
        first.kill()
        if victim != "parent":
            for rank in ranks:
                with suppress(ProcessLookupError):  # it died with its parent, and is buried
                    os.kill(rank, signal.SIGKILL)
        assert second.end() == 0
    assert "an unfinished conversion is thrown away: " in second.said()
    (entry,) = entries(tmp_path / "cache")
    assert_is_the_model(entry, model)
    assert drafts(tmp_path / "cache") == []
    gone(*ranks)


def test_where_locks_exclude_nobody_both_convert_and_the_first_to_finish_wins(
    tmp_path: Path, model: Path, step: Callable[..., Step]
) -> None:
    gate = tmp_path / "gate"
    first, second = step("first", gate=gate, locks=False), step("second", locks=False)
    with ended(first, second):
        first.start().reading()
        assert second.start().end() == 0
        (entry,) = entries(tmp_path / "cache")
        made = entry.stat().st_ino
        assert len(drafts(tmp_path / "cache")) == 1, "what another may be making is left alone"
        gate.touch()
        assert first.end() == 0, first.said()
    assert entry.stat().st_ino == made
    assert_is_the_model(entry, model)
    assert drafts(tmp_path / "cache") == []


def test_told_to_go_it_leaves_words_and_the_next_start_begins_anew(
    tmp_path: Path, model: Path, step: Callable[..., Step]
) -> None:
    first = step("first", gate=tmp_path / "never")
    with ended(first):
        ranks = first.start().reading()
        first.kill(signal.SIGTERM)
        assert first.end() == 143
    assert first.words().ending is Ending.PREEMPTED
    assert entries(tmp_path / "cache") == []
    gone(*ranks)
    second = step("second")
    with ended(second):
        assert second.start().end() == 0
    (entry,) = entries(tmp_path / "cache")
    assert_is_the_model(entry, model)


def test_told_to_go_while_it_waits_it_goes(tmp_path: Path, step: Callable[..., Step]) -> None:
    first, second = step("first", gate=tmp_path / "never"), step("second")
    with ended(first, second):
        first.start().reading()
        second.start().says("waiting for another process")
        second.kill(signal.SIGTERM)
        assert second.end() == 143


def test_a_rank_that_dies_ends_the_conversion_with_its_name_and_where_it_was(
    tmp_path: Path, step: Callable[..., Step]
) -> None:
    one = step(gate=tmp_path / "never")
    with ended(one):
        ranks = one.start().reading()
        os.kill(ranks[1], signal.SIGKILL)
        assert one.end() == 1
    words = one.words()
    assert words.ending is Ending.FAILED
    assert words.message.startswith(
        "rank 1 of the conversion was ended by SIGKILL; the kernel does that when memory"
    )
    assert "it was at: decoder.layers." in words.message
    gone(ranks[0])
    assert entries(tmp_path / "cache") == []


def test_a_rank_that_never_arrives_is_named_once_nothing_moves(step: Callable[..., Step]) -> None:
    one = step(absent_rank=1, stall_seconds=3)
    with ended(one):
        assert one.start().end() == 1
    assert one.words().message == (
        "the conversion has not moved for 3 s, and was ended. It hangs at rank 0: joining the others; "
        "rank 1: joining the others"
    )


def test_a_rank_that_hangs_while_it_reads_is_named_with_its_parameter(
    tmp_path: Path, step: Callable[..., Step]
) -> None:
    one = step(gate=tmp_path / "never", stall_seconds=3)
    with ended(one):
        assert one.start().end() == 1
    assert (
        "It hangs at rank 0: embedding.word_embeddings.weight; rank 1: decoder.layers.1."
        in one.words().message
    )


def gone(*ranks: int) -> None:
    """Those whose parent died are init's to bury, at its leisure."""
    until(lambda: not any(alive(rank) for rank in ranks), "no rank is left")
