"""R1: every checkpoint and infrastructure knob is declared, and reaches Megatron; what is left out is as it always was.

Upstream, these values stood in the source: users patched files. Each test reads what Megatron was really called with,
for the policy and for the frozen reference model.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
import torch.distributed as dist

from requirements.interrupted import any_backend, build, gated, step
from requirements.megatron_calls import Called, train_save_and_resume
from rljob_api.job import JobSpec
from rljob_api.run import Run
from rljob_trainer import distributed
from rljob_trainer.backend.protocol import NonFiniteGradientError
from trainer.checkpoints import a_run
from trainer.ranks import run_ranks
from trainer.test_megatron import grpo, make_batch, make_model

Knobs = dict[str, Any]
ADAM: Knobs = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weightDecay": 0.2}
OVERRIDES: Knobs = {
    "checkpoint": {
        "fullyParallelSave": False,
        "fullyParallelLoad": False,
        "loadRng": False,
        "asyncSave": True,
        "optimizerSharding": "FullyReshardable",
    },
    "parallelism": {"tensor": 2, "sequence": True},
    "megatron": {
        "distributedTimeoutMinutes": 3,
        "checkForNanInGrad": False,
        "loggingLevel": 10,
        "microBatchTokens": 40,
        "recompute": "selective",
        "attentionDropout": 0.1,
        "overlapGradReduce": True,
        "overlapParamGather": True,
        "optimizer": ADAM | {"maxGradNorm": 0.5},
        "scheduler": {"warmupSteps": 2, "decay": "linear", "minFactor": 0.5},
    },
}


def a_megatron_run(directory: Path, **spec: Any) -> Run:
    blocks: Knobs = {"checkpoint": {}, "megatron": {}, "trainer": {"numProcPerNode": 2}, **spec}
    blocks["checkpoint"] = {**blocks["checkpoint"], "savePeriod": 2}
    grpo = {"maxSteps": 6, "learningRate": 1e-2}
    return a_run(directory, backend="megatron", algorithm={"grpo": grpo}, **blocks)


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Called]]:
    """On both ranks of a job that sets no knob, and of one that sets all."""
    model = make_model(tmp_path_factory.mktemp("model"), "qwen3", tied=True)
    storage = tmp_path_factory.mktemp("storage")
    jobs = {
        "left out": a_megatron_run(storage / "left-out"),
        "set": a_megatron_run(storage / "set", **OVERRIDES),
    }
    return {name: run_ranks(2, train_save_and_resume, job, model) for name, job in jobs.items()}


@pytest.mark.parametrize(("job", "on"), [("left out", True), ("set", False)])
def test_fully_parallel_save_and_load(called: dict[str, list[Called]], job: str, on: bool) -> None:
    for rank in called[job]:
        assert [save["fully parallel"] for save in rank.saves] == [on]
        policy, reference, resumed = (load["fully parallel"] for load in rank.loads)
        assert (policy, reference, resumed) == (on, on, on)


@pytest.mark.parametrize(("job", "loaded"), [("left out", True), ("set", False)])
def test_random_states_are_always_saved_and_loaded_as_asked(
    called: dict[str, list[Called]], job: str, loaded: bool
) -> None:
    for rank in called[job]:
        assert [save["rng"] for save in rank.saves] == [True]
        policy, reference, resumed = (load["rng"] for load in rank.loads)
        assert (policy, reference, resumed) == (False, False, loaded), "a first load takes no random states"
        assert ("random states, exactly" in rank.reason) is loaded


@pytest.mark.parametrize(("job", "background"), [("left out", False), ("set", True)])
def test_async_save(called: dict[str, list[Called]], job: str, background: bool) -> None:
    assert [rank.saves[0]["background"] for rank in called[job]] == [background] * 2


def save_behind_a_gate(spec: JobSpec, model: Path, directory: Path) -> tuple[int, int]:
    """Files of tensors when a background save has returned, and when it is done; nothing is written in between."""
    backend, gate = build(spec, model), Event()
    with gated(gate):
        wait = backend.save_checkpoint(directory, optimizer=True, rng=backend.rng_state(), background=True)
        before = len([*directory.glob("*.distcp")])
        gate.set()
        wait()
    return before, len([*directory.glob("*.distcp")])


def test_a_save_in_the_background_returns_before_its_files_exist(tmp_path: Path) -> None:
    model, directory = make_model(tmp_path / "model", "qwen3", tied=True), tmp_path / "step"
    directory.mkdir()
    spec = a_megatron_run(tmp_path, trainer={"numProcPerNode": 1}).spec
    assert run_ranks(1, save_behind_a_gate, spec, model, directory) == [(0, 1)]


@pytest.mark.parametrize(("job", "sharding"), [("left out", "dp_reshardable"), ("set", "fully_reshardable")])
def test_optimizer_sharding(called: dict[str, list[Called]], job: str, sharding: str) -> None:
    assert [rank.saves[0]["optimizer sharding"] for rank in called[job]] == [sharding] * 2


@pytest.mark.parametrize(("job", "minutes"), [("left out", 30), ("set", 3)])
def test_distributed_timeout_of_the_groups_of_megatron(
    called: dict[str, list[Called]], job: str, minutes: int
) -> None:
    """Left out, it is Megatron's own: not that of torch, which the group of all ranks has."""
    for rank in called[job]:
        assert rank.groups["distributed_timeout_minutes"] == minutes


@pytest.mark.parametrize(("job", "checked"), [("left out", True), ("set", False)])
def test_nan_check(called: dict[str, list[Called]], job: str, checked: bool) -> None:
    assert [rank.gradients["check_for_nan_in_grad"] for rank in called[job]] == [checked] * 2


@pytest.mark.parametrize(("job", "on"), [("left out", False), ("set", True)])
def test_overlap_of_gradients_and_parameters(called: dict[str, list[Called]], job: str, on: bool) -> None:
    for rank in called[job]:
        assert rank.gradients["overlap_grad_reduce"] is on
        assert rank.gradients["overlap_param_gather"] is rank.optimizer["overlap_param_gather"] is on


@pytest.mark.parametrize(
    ("job", "recompute", "dropout", "sequence"),
    [("left out", None, 0, False), ("set", "selective", 0.1, True)],
)
def test_what_only_training_does_and_what_both_models_do(
    called: dict[str, list[Called]], job: str, recompute: str | None, dropout: float, sequence: bool
) -> None:
    for rank in called[job]:
        policy, reference = rank.models
        assert (policy.get("recompute_granularity"), policy["attention_dropout"]) == (recompute, dropout)
        assert (reference.get("recompute_granularity"), reference["attention_dropout"]) == (None, 0)
        assert [model["sequence_parallel"] for model in rank.models] == [sequence] * 2


def recomputed(spec: JobSpec, model: Path) -> tuple[str, str, int]:
    """What Megatron runs the policy with. Collective."""
    config = build(spec, model).chunks[0].config
    return config.recompute_granularity, config.recompute_method, config.recompute_num_layers


def test_recompute_in_full(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "qwen3", tied=True)
    spec = a_megatron_run(tmp_path, trainer={"numProcPerNode": 1}, megatron={"recompute": "full"}).spec
    assert run_ranks(1, recomputed, spec, model) == [("full", "uniform", 1)]


def test_micro_batches(called: dict[str, list[Called]]) -> None:
    """81 tokens in rows of up to 20 are one piece, or at least three of up to 40."""
    assert all(rank.micro_batches == {1} for rank in called["left out"])
    assert all(min(rank.micro_batches) >= 3 for rank in called["set"])


@pytest.mark.parametrize(("job", "level"), [("left out", logging.WARNING), ("set", logging.DEBUG)])
def test_logging_level(called: dict[str, list[Called]], job: str, level: int) -> None:
    """Left out, it is that of the process, here Python's own default."""
    assert [rank.logging_level for rank in called[job]] == [level] * 2


@pytest.mark.parametrize(
    ("job", "expected", "rates"),
    [
        ("left out", (0.9, 0.999, 1e-8, 0.01, 1.0), [1e-2, 1e-2, 1e-2]),
        # Up in two steps, then down to half at step 6: the third update is a quarter of that way.
        ("set", (0.8, 0.95, 1e-6, 0.2, 0.5), [0.5e-2, 1e-2, 0.875e-2]),
    ],
)
def test_optimizer_and_schedule(
    called: dict[str, list[Called]], job: str, expected: tuple[float, ...], rates: list[float]
) -> None:
    names = ("adam_beta1", "adam_beta2", "adam_eps", "weight_decay", "clip_grad")
    for rank in called[job]:
        assert tuple(rank.optimizer[name] for name in names) == expected
        assert rank.rates == pytest.approx(rates)


def train_and_save(spec: JobSpec, model: Path, directory: Path) -> None:
    backend = any_backend(spec, model)
    step(backend, 0)
    backend.save_checkpoint(directory, optimizer=True, rng=backend.rng_state(), background=False)()


def numbers_after_load(spec: JobSpec, model: Path, directory: Path) -> set[tuple[Any, ...]]:
    """What the groups of parameters say: betas, epsilon, weight decay."""
    backend: Any = any_backend(spec, model)
    backend.load_checkpoint(directory, optimizer=True, rng=True)
    groups = backend.optimizer.param_groups
    return {(*group["betas"], group["eps"], group["weight_decay"]) for group in groups}


@pytest.mark.parametrize("backend", ["megatron", "dtensor"])
def test_numbers_of_the_optimizer_that_change_between_attempts_reach_the_next(
    tmp_path: Path, backend: str
) -> None:
    """State comes back with the numbers that it was saved with: weights decay by 0.01 there."""
    model, directory = make_model(tmp_path / "model", "qwen3", tied=True), tmp_path / "step"
    directory.mkdir()
    blocks: list[Knobs] = [{backend: {}}, {backend: {"optimizer": ADAM}}]
    before, after = (a_run(tmp_path, backend=backend, **block).spec for block in blocks)
    run_ranks(1, train_and_save, before, model, directory)
    (numbers,) = run_ranks(1, numbers_after_load, after, model, directory)
    assert numbers == {(0.8, 0.95, 1e-6, 0.2), (0.8, 0.95, 1e-6, 0.0)}


@pytest.mark.parametrize("backend", ["megatron", "dtensor"])
@pytest.mark.parametrize("minutes", [None, 3])
def test_distributed_timeout_of_the_default_group(
    monkeypatch: pytest.MonkeyPatch, backend: str, minutes: int | None
) -> None:
    asked: list[timedelta | None] = []
    monkeypatch.setattr(distributed, "meet", lambda *_: None)
    monkeypatch.setattr(dist, "new_group", lambda **_: None)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, timeout, **__: asked.append(timeout))
    block: Knobs = {backend: {} if minutes is None else {"distributedTimeoutMinutes": minutes}}
    distributed.join(a_run(Path("/"), **block), 0, 0)
    assert asked == [None if minutes is None else timedelta(minutes=minutes)]


def step_on_nan(spec: JobSpec, model: Path) -> tuple[str, list[str]]:
    """What a step with a row that weighs infinitely ends in, and what is logged of it. Collective."""
    backend, log = build(spec, model), Messages()
    logging.getLogger("rljob_trainer").addHandler(log)
    batch, loss = grpo(make_batch(), backend.logprobs(make_batch()))
    weights_B = torch.ones(batch.size)
    weights_B[0] = torch.inf
    spoiled = replace(batch, advantages_B=batch.advantages_B * weights_B)
    try:
        backend.train_step(spoiled, loss, lambda: None)
    except NonFiniteGradientError as error:
        return str(error), log.messages
    return "", log.messages


class Messages(logging.Handler):
    """Remembers what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_a_nan_is_found_on_one_rank_and_ends_the_step_on_all(tmp_path: Path) -> None:
    model = make_model(tmp_path, "qwen3", tied=True)
    ends = run_ranks(2, step_on_nan, a_megatron_run(tmp_path).spec, model)
    assert [error for error, _ in ends] == ["the gradient norm is nan"] * 2
    (found,) = [message for _, messages in ends for message in messages]
    assert "found NaN in local grad norm for bucket #0" in found

    unchecked = a_megatron_run(tmp_path, megatron={"checkForNanInGrad": False}).spec
    assert run_ranks(2, step_on_nan, unchecked, model) == [("", [])] * 2


def test_the_knobs_that_are_left_out_are_left_out_of_the_schema_too() -> None:
    """A rule could not tell a default from a value that somebody set."""
    spec = json.loads(a_megatron_run(Path("/")).spec.model_dump_json(by_alias=True, exclude_none=True))
    assert (
        not {"fullyParallelSave", "fullyParallelLoad", "loadRng", "optimizerSharding"}
        & spec["checkpoint"].keys()
    )
    assert not {"loggingLevel", "distributedTimeoutMinutes"} & spec["megatron"].keys()
