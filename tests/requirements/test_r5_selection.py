"""R5: which of two backends trains. What is chosen, and what is ignored, is said; nothing is ignored without a word."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from builders import NOW, a_job, seen
from rljob_api.job import RLJob
from rljob_api.parallelism import BackendName
from rljob_api.status import ConditionType, Status
from rljob_operator.decide import Decision, Goal
from rljob_operator.status import status
from rljob_trainer.backend.build import build_backend
from trainer.checkpoints import a_run

ON: dict[str, Any] = {"optimizer": {"beta2": 0.5}, "scheduler": {"warmupSteps": 3}}
OFF = {"enabled": False}


def accepted(job: RLJob) -> tuple[str, str]:
    """`status.backend`, and what the condition says about the choice."""
    told: Status = status(job, seen(), Decision(Goal.RUN, "FirstAttempt"), NOW)
    (message,) = (one.message for one in told.conditions if one.type is ConditionType.ACCEPTED)
    return told.backend, message


@pytest.mark.parametrize(
    ("blocks", "chosen", "why"),
    [
        ({"backend": "megatron"}, "megatron", "as spec.backend says"),
        ({"backend": "dtensor"}, "dtensor", "as spec.backend says"),
        ({}, "dtensor", "as spec.backend is absent and there is no spec.megatron"),
        ({"dtensor": ON}, "dtensor", "as spec.backend is absent and there is no spec.megatron"),
        ({"megatron": ON}, "megatron", "as spec.backend is absent and spec.megatron is enabled"),
        (
            {"megatron": ON, "dtensor": ON},
            "megatron",
            "as spec.backend is absent and of two enabled blocks megatron wins; spec.dtensor is ignored",
        ),
        (
            {"megatron": ON, "dtensor": OFF},
            "megatron",
            "as spec.backend is absent and spec.megatron is enabled; spec.dtensor is ignored",
        ),
        (
            {"megatron": OFF, "dtensor": ON},
            "dtensor",
            "as spec.backend is absent and spec.megatron is not enabled; spec.megatron is ignored",
        ),
    ],
)
def test_the_status_says_which_backend_trains_and_why(blocks: dict[str, Any], chosen: str, why: str) -> None:
    assert accepted(a_job(**blocks)) == (chosen, f"backend {chosen}, {why}")


@pytest.mark.parametrize("chosen", BackendName)
def test_the_chosen_backend_is_built_and_reads_its_own_block(
    chosen: BackendName, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = BackendName.DTENSOR if chosen is BackendName.MEGATRON else BackendName.MEGATRON
    loser = {"enabled": False, "optimizer": {"beta2": 0.1}, "scheduler": {"warmupSteps": 9}}
    blocks: dict[str, Any] = {chosen: ON, other: loser}
    run = a_run(Path("/"), **blocks)
    for name in BackendName:
        makes = SimpleNamespace(**{f"{name.capitalize()}Backend": lambda *_, name=name, **__: name})
        monkeypatch.setitem(sys.modules, f"rljob_trainer.backend.{name}.backend", makes)
    monkeypatch.setattr("rljob_trainer.convert.once.find_converted", lambda *_: Path("/"))
    assert build_backend(run, Path("/"), reference=False) is chosen  # type: ignore[comparison-overlap]  # a stand-in
    spec = run.spec
    assert spec.backend_options.optimizer.beta2 == 0.5
    assert spec.backend_options.scheduler.warmup_steps == 3


@pytest.mark.parametrize("chosen", BackendName)
def test_an_explicit_backend_refuses_the_other_ones_block(chosen: BackendName) -> None:
    other = BackendName.DTENSOR if chosen is BackendName.MEGATRON else BackendName.MEGATRON
    refusal = f"spec.{other}: `backend: {chosen}` would ignore this block"
    for block in (ON, OFF, {}):
        blocks: dict[str, Any] = {other: block}
        with pytest.raises(ValidationError, match=refusal):
            a_job(backend=chosen, **blocks)


@pytest.mark.parametrize(
    "knob",
    [{"fullyParallelSave": False}, {"fullyParallelLoad": True}, {"optimizerSharding": "DpReshardable"}],
)
def test_dtensor_refuses_what_only_megatron_has(knob: dict[str, object]) -> None:
    (name,) = knob
    with pytest.raises(ValidationError, match=f"spec.checkpoint.{name}: only the megatron backend has it"):
        a_job(checkpoint=knob)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        a_job(dtensor={"loggingLevel": 10})


def test_blocks_that_leave_no_backend_are_refused() -> None:
    with pytest.raises(ValidationError, match="the block of the backend that trains says `enabled: false`"):
        a_job(dtensor=OFF, megatron=OFF)
    with pytest.raises(ValidationError, match="the block of the backend that trains says `enabled: false`"):
        a_job(backend="megatron", megatron=OFF)
