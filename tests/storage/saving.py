"""A job that saves on a volume under test, and what must be left of it: through the trainer's own save and resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_loader import load

from requirements import interrupted
from rljob_api.base import Manifest
from rljob_api.parallelism import BackendName
from rljob_api.run import Run
from rljob_trainer.backend.layout import layout_of
from rljob_trainer.backend.protocol import Written
from rljob_trainer.checkpoint.basis import Basis
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.past import StepNotes
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.shards import write_shards
from rljob_trainer.checkpoint.state import LoopState
from trainer import tiny
from trainer.checkpoints import VERSIONS, FileBackend, a_run, a_saver, alone
from trainer.ranks import run_ranks
from trainer.test_megatron import SIZES

T = TypeVar("T")
SPECS: dict[BackendName, Manifest] = {
    BackendName.DTENSOR: {},
    BackendName.MEGATRON: {"backend": "megatron", "megatron": {"microBatchTokens": 40}},
}
"""Of a job on that backend, what differs."""
on_each_backend = pytest.mark.parametrize("backend", BackendName)
FLOATS = 50_000
"""In a checkpoint of a step: 200 kB, so several writes."""


def state_of(step: int) -> Manifest:
    """What the step has come to; every value tells the step."""
    return {"model": {"weight": torch.full((FLOATS,), float(step)), "bias": torch.arange(5.0) + step}}


class States(Protocol):
    """A backend whose checkpoints tell their step, which stands for the random state where it is saved."""

    name: BackendName

    def save_checkpoint(
        self, directory: Path, *, optimizer: bool, rng: object, background: bool
    ) -> Written: ...

    def assert_holds(self, state: Path, step: int) -> None:
        """What is loaded is what was saved after that step, to the last bit."""


class StateBackend(FileBackend):
    """Saves as dtensor does."""

    name = BackendName.DTENSOR

    def __init__(self) -> None:
        alone()
        super().__init__()
        self.group = dist.new_group(backend="gloo")

    def save_checkpoint(self, directory: Path, *, optimizer: bool, rng: object, background: bool) -> Written:
        assert isinstance(rng, int)
        planner = DefaultSavePlanner()
        return write_shards(state_of(rng), directory, planner, self.group, background=background)

    @staticmethod
    def assert_holds(state: Path, step: int) -> None:
        wanted, found = state_of(step), state_of(0)
        load(found, checkpoint_id=state)
        assert all(torch.equal(found["model"][name], wanted["model"][name]) for name in wanted["model"])


class MegatronStates:
    """Megatron's own, with a small model. All its weights and moments are the step."""

    name = BackendName.MEGATRON

    def __init__(self, model: Path) -> None:
        spec = a_run(model, **SPECS[self.name]).spec
        self.backend, self.layout = interrupted.build(spec, model), layout_of(spec)
        interrupted.step(self.backend, 0)  # from now on there are moments
        moments = (moment for moment in interrupted.moments(self.backend) if moment.dim())
        self.tensors = [tensor.detach() for tensor in (*interrupted.weights(self.backend), *moments)]

    def save_checkpoint(self, directory: Path, *, optimizer: bool, rng: object, background: bool) -> Written:
        assert isinstance(rng, int)
        self._fill(rng)
        state = self.backend.rng_state()
        return self.backend.save_checkpoint(directory, optimizer=optimizer, rng=state, background=background)

    def assert_holds(self, state: Path, step: int) -> None:
        self._fill(0)
        self.backend.load_checkpoint(state, optimizer=True, rng=True)
        assert all((tensor == step).all() for tensor in self.tensors)

    def _fill(self, step: int) -> None:
        for tensor in self.tensors:
            tensor.fill_(step)


def on_backend(name: BackendName, folder: Path, act: Callable[..., T], *args: object) -> T:
    """`act(states, *args)`, with Megatron in a process that imported it."""
    match name:
        case BackendName.DTENSOR:
            return act(StateBackend(), *args)
        case BackendName.MEGATRON:
            model = tiny.make_model(folder / "model", "qwen3", tied=True, num_hidden_layers=1, **SIZES)
            results: list[T] = run_ranks(1, _on_megatron, model, act, *args)
            return results[0]


def _on_megatron(model: Path, act: Callable[..., T], *args: object) -> T:
    return act(MegatronStates(model), *args)


class SavingJob:
    """A job on a volume: an attempt of one rank."""

    def __init__(
        self, root: Path, attempt: int = 1, keep: int = 2, states: States | None = None, **spec: Any
    ) -> None:
        states = states or StateBackend()
        self.run: Run = a_run(
            root, attempt, **{"checkpoint": {"keepLatest": keep}} | SPECS[states.name] | spec
        )
        self.storage: Storage = open_storage(self.run)
        basis = Basis.of(self.run.spec, layout_of(self.run.spec), VERSIONS)
        self.notes = StepNotes(self.storage, basis, furthest=0)
        self.saver: Saver = a_saver(self.run, states, self.storage)  # type: ignore[arg-type]  # saves only

    def saved(self, step: int) -> int:
        """The step, once it is saved."""
        return self.saver.save(LoopState(step=step), rng=step).manifest.step

    def begin(self, step: int) -> None:
        self.saver.begin(LoopState(step=step), rng=step)

    def plan(self) -> ResumePlan:
        """What it would go on from."""
        return plan_resume(self.storage, self.run, layout_of(self.run.spec), VERSIONS)


def resumed(root: Path, attempt: int = 2, name: BackendName = BackendName.DTENSOR) -> ResumePlan:
    """What the next attempt goes on from."""
    run = a_run(root, attempt, **SPECS[name])
    return plan_resume(open_storage(run), run, layout_of(run.spec), VERSIONS)


def assert_loads(plan: ResumePlan, states: States | type[StateBackend] = StateBackend) -> None:
    """What is loaded is what was saved after that step, to the last bit."""
    if plan.state is None:
        assert plan.step == 0
        return
    states.assert_holds(plan.state, plan.step)
