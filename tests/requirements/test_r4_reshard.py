"""R4: one checkpoint, other layouts: what loads goes on as if nothing had changed, what does not is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from requirements.interrupted import Plan, halted, run, saving
from trainer.ranks import run_ranks
from trainer.test_megatron import make_spec

Cut = tuple[int, int, int]
"""Tensor, pipeline, data."""


@pytest.mark.parametrize("layout", [(1, 1, 1), (1, 2, 1)])
def test_a_fully_reshardable_checkpoint_goes_on_under_another_layout(tmp_path: Path, layout: Cut) -> None:
    spec = saving(make_spec(2, 1, 2), optimizerSharding="FullyReshardable")
    model, directory = halted(tmp_path, spec)
    goes_on = Plan(first=3, load=directory, rng=False)
    same = run_ranks(4, run, spec, model, goes_on)[0]
    other = run_ranks(math.prod(layout), run, make_spec(*layout), model, goes_on)[0]
    for one, two in zip(same.results, other.results, strict=True):
        assert two.metrics == pytest.approx(one.metrics, abs=1e-6)
        assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
