"""Log-probabilities of a large batch take long: ranks that are told to go stop together in the middle of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rljob_api.job import JobSpec
from rljob_trainer.backend.dtensor.backend import DtensorBackend
from rljob_trainer.backend.protocol import Backend, Interrupted
from trainer import test_megatron, tiny
from trainer.conversions import converted
from trainer.ranks import StopAt, run_ranks


def build(spec: JobSpec, model: Path) -> Backend:
    """With the starting model for a KL penalty."""
    if spec.backend == "dtensor":
        return DtensorBackend(spec, model, reference=True)
    from rljob_trainer.backend.megatron.backend import MegatronBackend

    return MegatronBackend(spec, model, converted(model), reference=True)


def stop_in_logprobs(spec: JobSpec, model: Path, stop_at: int) -> list[tuple[int, bool]]:
    """How often each of the two asked, and whether the next answer is what it would have been."""
    backend, batch = build(spec, model), test_megatron.make_batch()
    found = []
    for logprobs in (backend.logprobs, backend.reference_logprobs):
        expected, poll = logprobs(batch), StopAt(stop_at)
        with pytest.raises(Interrupted):
            logprobs(batch, poll)
        found.append((poll.asked, torch.equal(logprobs(batch), expected)))
    return found


SPECS = {
    "dtensor": (tiny.make_spec(data=2, microBatchTokens=20), 3),
    "megatron": (test_megatron.make_spec(2, 1, 1), 3),
    "stages": (test_megatron.make_spec(1, 2, 1), 1),  # which stop at the ends of the schedule only
}


@pytest.mark.parametrize("which", SPECS)
def test_ranks_stop_together_in_the_middle_of_it(tmp_path: Path, which: str) -> None:
    spec, stop_at = SPECS[which]
    model = test_megatron.make_model(tmp_path, "qwen3", tied=True)
    assert run_ranks(2, stop_in_logprobs, spec, model, stop_at) == [[(stop_at, True)] * 2] * 2
