"""The megatron backend on one GPU: a bit-exact resume in bfloat16, and CUDA's random states in both kinds of tracker.

Runs with that machine's own torch and transformers, and with megatron-core, which is a small wheel; needs neither
Transformer Engine nor vLLM.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from requirements.interrupted import SAVED, Plan, a_model, a_spec, ran, same_end
from trainer.ranks import run_ranks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
    pytest.mark.skipif(
        not (find_spec("megatron") and find_spec("megatron.core")),
        reason="megatron-core is not installed: pip install --no-deps megatron-core",
    ),
]


def convert(model: Path, dtype: torch.dtype) -> None:
    """As the step does that runs before training: on the CPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from rljob_trainer.convert.write import write_model

    (model / "megatron").mkdir()
    write_model(model, model / "megatron", dtype)


def test_a_resume_on_the_gpu_is_bit_exact(tmp_path: Path) -> None:
    spec, directory = a_spec(dropout=0.1, on_gpu=True), tmp_path / "step"
    model = a_model(tmp_path / "model", spec)
    run_ranks(1, convert, model, torch.bfloat16)
    directory.mkdir()
    (straight,) = ran(spec, model, Plan(save=directory))
    (resumed,) = ran(spec, model, Plan(first=SAVED, load=directory))
    assert same_end(straight, resumed)
    (strange,) = ran(spec, model, Plan(first=SAVED, load=directory, drop_rng_of=0))
    assert strange.results[0] != straight.results[SAVED], "dropout must draw from CUDA's random state"


def moved(before: bool, after: bool) -> bool:
    """Whether a stream goes on where it was in a tracker that is safe for CUDA graphs, or is not."""
    from megatron.core.tensor_parallel import random as megatron_random

    from rljob_trainer.backend.megatron import rng

    def begin(seed: int, graph_safe: bool) -> None:
        alone = {"tp_rank": 0, "ep_rank": 0, "etp_rank": 0, "force_reset_rng": True}
        megatron_random.model_parallel_cuda_manual_seed(seed, use_cudagraphable_rng=graph_safe, **alone)

    def drawn() -> torch.Tensor:
        with megatron_random.get_cuda_rng_tracker().fork():
            return torch.rand(3, device="cuda")

    begin(7, before)
    drawn()
    kept = rng.read_rng()
    expected = drawn()
    begin(8, after)
    other = drawn()
    rng.write_rng(kept)
    return torch.equal(drawn(), expected) and not torch.equal(other, expected)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_tracked_states_go_on_in_either_kind_of_tracker(before: bool, after: bool) -> None:
    assert run_ranks(1, moved, before, after) == [True]
