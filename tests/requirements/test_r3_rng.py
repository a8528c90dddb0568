"""R3: each rank gets its own random stream back, so that a resumed run is the uninterrupted one, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from requirements.interrupted import Plan, halted, run, same_end
from trainer.ranks import run_ranks
from trainer.test_megatron import make_model, make_spec

DROPOUT = 0.1


@pytest.mark.parametrize("layout", [(2, 1, 1), (1, 2, 1), (2, 1, 2)], ids=["TP2", "PP2", "TP2xDP2"])
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(
    tmp_path: Path, layout: tuple[int, int, int]
) -> None:
    spec = make_spec(*layout, dropout=DROPOUT)
    world = spec.trainer.world_size
    model, directory = halted(tmp_path, spec)
    straight = run_ranks(world, run, spec, model, Plan())
    resumed = run_ranks(world, run, spec, model, Plan(first=3, load=directory))
    assert [same_end(one, other) for one, other in zip(straight, resumed, strict=True)] == [True] * world

    forgetful = Plan(first=3, load=directory, drop_rng_of=world - 1)
    differing = run_ranks(world, run, spec, model, forgetful)
    assert not any(same_end(one, other) for one, other in zip(straight, differing, strict=True))


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    spec = make_spec(2, 1, 1, dropout=DROPOUT)
    model, directory = halted(tmp_path, spec, Plan(background=True))
    straight = run_ranks(2, run, spec, model, Plan())
    resumed = run_ranks(2, run, spec, model, Plan(first=3, load=directory))
    assert all(same_end(one, other) for one, other in zip(straight, resumed, strict=True))


def test_replicas_that_drop_weights_draw_from_streams_of_their_own(tmp_path: Path) -> None:
    model = make_model(tmp_path, "qwen3", tied=True)
    traces = run_ranks(2, run, make_spec(1, 1, 2, dropout=DROPOUT), model, Plan(last=0))
    assert traces[0].draws != traces[1].draws
