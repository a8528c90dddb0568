"""Megatron's optimizer over torch's own Adam, which it does not expect: three defects, each shown and each mended.

Two end in errors. The third spoils training without a word, and with it every exact resume (R3).
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from requirements.interrupted import Plan, a_model, a_spec, build, ran, same_end, saved, step, unmended
from rljob_api.job import JobSpec
from trainer.ranks import run_ranks

FULLY = {"optimizerSharding": "FullyReshardable"}


def save_before_the_first_update(spec: JobSpec, model: Path, directory: Path, mended: bool) -> str:
    backend = build(spec, model)
    with nullcontext() if mended else unmended("state_dict"):
        try:
            backend.save_checkpoint(directory, optimizer=True, rng=backend.rng_state(), background=False)()
        except AssertionError as error:
            return f"refused: {error}"
    return "saved"


@pytest.mark.parametrize(("mended", "end"), [(True, "saved"), (False, "refused: ")])
def test_an_optimizer_that_has_not_stepped_can_be_saved(tmp_path: Path, mended: bool, end: str) -> None:
    model, directory = a_model(tmp_path / "model", a_spec()), tmp_path / "step_0"
    directory.mkdir()
    assert run_ranks(1, save_before_the_first_update, a_spec(), model, directory, mended) == [end]


def load_by_parameter(spec: JobSpec, model: Path, directory: Path, mended: bool) -> str:
    backend = build(spec, model)
    with nullcontext() if mended else unmended("_set_main_param_and_optimizer_states"):
        try:
            backend.load_checkpoint(directory, optimizer=True, rng=False)
        except KeyError as error:
            return f"KeyError: {error}"
    return f"{step(backend, 3).grad_norm > 0}"


@pytest.mark.parametrize(("mended", "end"), [(True, "True"), (False, "KeyError: 'step'")])
def test_an_optimizer_saved_by_parameter_loads(tmp_path: Path, mended: bool, end: str) -> None:
    spec = a_spec(checkpoint=FULLY)
    model, directory, _ = saved(tmp_path, spec, Plan(last=4))
    assert run_ranks(1, load_by_parameter, spec, model, directory, mended) == [end]


def test_parameters_do_not_share_one_count_of_updates_after_a_load(tmp_path: Path) -> None:
    """It goes up once for every parameter, so that the bias correction is wrong from the second update on."""
    spec = a_spec()
    model, directory, straight = saved(tmp_path, spec)
    assert same_end(straight[0], ran(spec, model, Plan(first=3, load=directory))[0])
    shared = ran(spec, model, Plan(first=3, load=directory, mended=False))[0]
    assert shared.results[0] == straight[0].results[3]
    assert shared.results[2].metrics != straight[0].results[5].metrics
