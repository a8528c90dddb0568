"""R4: one checkpoint, other layouts: what loads goes on as if nothing had changed, what cannot load is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from requirements.interrupted import Plan, a_spec, ran, saved
from rljob_api.base import Manifest

FULLY = {"optimizerSharding": "FullyReshardable"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"tensor": 2}, {}),
        ({}, {"tensor": 2}),
        ({}, {"pipeline": 2}),
        ({"data": 4}, {"data": 2}),
        ({"data": 2}, {"data": 4}),
        ({"tensor": 2, "data": 2}, {"pipeline": 2}),
    ],
    ids=["TP2-to-1", "TP1-to-2", "PP1-to-2", "DP4-to-2", "DP2-to-4", "TP2xDP2-to-PP2"],
)
def test_a_fully_reshardable_checkpoint_goes_on_under_another_layout(
    tmp_path: Path, before: Manifest, after: Manifest
) -> None:
    """Without dropout: losses are those of the run that never changed."""
    model, directory, straight = saved(tmp_path, a_spec(**before, checkpoint=FULLY))
    resumed = ran(a_spec(**after), model, Plan(first=3, load=directory, rng=False))
    for rank in resumed:
        for one, other in zip(straight[0].results[3:], rank.results, strict=True):
            assert other.metrics == pytest.approx(one.metrics, abs=1e-6)
            assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4)])
def test_the_number_of_replicas_may_change_in_any_case(tmp_path: Path, before: int, after: int) -> None:
    model, directory, straight = saved(tmp_path, a_spec(data=before))
    resumed = ran(a_spec(data=after), model, Plan(first=3, load=directory, rng=False))
    for one, other in zip(straight[0].results[3:], resumed[0].results, strict=True):
        assert other.metrics == pytest.approx(one.metrics, abs=1e-6)
