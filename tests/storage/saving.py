"""A job that saves on a volume under test, and what must be left of it: through the trainer's own save and resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_loader import load

from rljob_api.base import Manifest
from rljob_api.run import Run
from rljob_trainer.backend.protocol import Written
from rljob_trainer.checkpoint.basis import Basis
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.past import StepNotes
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.shards import write_shards
from rljob_trainer.checkpoint.state import LoopState
from trainer.checkpoints import VERSIONS, FileBackend, a_run, a_saver, alone, layout

FLOATS = 50_000
"""In a checkpoint of a step: 200 kB, so several writes."""


def state_of(step: int) -> Manifest:
    """What the step has come to; every value tells the step."""
    return {"model": {"weight": torch.full((FLOATS,), float(step)), "bias": torch.arange(5.0) + step}}


class StateBackend(FileBackend):
    """Saves as both backends do."""

    def __init__(self) -> None:
        super().__init__()
        self.group = dist.new_group(backend="gloo")

    def save_checkpoint(self, directory: Path, *, optimizer: bool, rng: object, background: bool) -> Written:
        assert isinstance(rng, int), "here the step stands for the random state"
        planner = DefaultSavePlanner()
        return write_shards(state_of(rng), directory, planner, self.group, background=background)


class SavingJob:
    """A job on a volume: an attempt of one rank."""

    def __init__(self, root: Path, attempt: int = 1, keep: int = 2, **spec: Any) -> None:
        alone()
        self.run: Run = a_run(root, attempt, **{"checkpoint": {"keepLatest": keep}} | spec)
        self.storage: Storage = open_storage(self.run)
        self.notes = StepNotes(self.storage, Basis.of(self.run.spec, layout(), VERSIONS), furthest=0)
        self.saver: Saver = a_saver(self.run, StateBackend(), self.storage)

    def saved(self, step: int) -> int:
        """The step, once it is saved."""
        return self.saver.save(LoopState(step=step), rng=step).manifest.step

    def begin(self, step: int) -> None:
        self.saver.begin(LoopState(step=step), rng=step)

    def plan(self) -> ResumePlan:
        """What it would go on from."""
        return plan_resume(self.storage, self.run, layout(), VERSIONS)


def resumed(root: Path, attempt: int = 2) -> ResumePlan:
    """What the next attempt goes on from."""
    run = a_run(root, attempt)
    return plan_resume(open_storage(run), run, layout(), VERSIONS)


def assert_loads(plan: ResumePlan) -> None:
    """What is loaded is what was saved after that step, to the last bit."""
    if plan.state is None:
        assert plan.step == 0
        return
    wanted, found = state_of(plan.step), state_of(0)
    load(found, checkpoint_id=plan.state)
    assert all(torch.equal(found["model"][name], wanted["model"][name]) for name in wanted["model"])
