"""Saves and loads through `torch.distributed.checkpoint`: own shards per rank, any layout loads."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.optim import Optimizer

from rljob_api.base import Manifest
from rljob_trainer.backend.protocol import Written
from rljob_trainer.checkpoint.shards import write_shards

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)
"""Optimizer state by parameter name, so that another layout finds its own."""


def write(state: Manifest, directory: Path, group: dist.ProcessGroup, *, background: bool) -> Written:
    """Write `state`; returns what waits for all ranks' writing. Collective.

    `group` is gloo and serves nothing else: planning in the background on the group that training uses would hang.
    """
    planner = DefaultSavePlanner(
        enable_plan_caching=True
    )  # ranks agree once who writes what, not at every save
    staged = BlockingAsyncStager().stage(state) if background else state
    return write_shards(staged, directory, planner, group, background=background)


def read(state: Manifest, directory: Path, group: dist.ProcessGroup) -> None:
    """Fill `state` in place: tensors as this layout cuts them, other values replaced. Collective."""
    load(state, checkpoint_id=directory, process_group=group)


def gather_state(model: nn.Module, optimizer: Optimizer | None, updates: int, rng: object) -> Manifest:
    """What a checkpoint holds; `optimizer` and `rng` are left out when None."""
    state: Manifest = {"model": get_model_state_dict(model), "scheduler": {"updates": updates}}
    if optimizer is not None:
        state["optim"] = get_optimizer_state_dict(model, optimizer, options=FLAT)
    if rng is not None:
        state["rng"] = {f"rank_{dist.get_rank()}": pickle.dumps(rng)}
    return state


def apply_state(state: Manifest, model: nn.Module, optimizer: Optimizer) -> None:
    """Put model and optimizer, where `state` has one, back."""
    set_model_state_dict(model, state["model"])
    if "optim" in state:
        set_optimizer_state_dict(model, optimizer, state["optim"], options=FLAT)


def rng_of(state: Manifest) -> object:
    return pickle.loads(state["rng"][f"rank_{dist.get_rank()}"])
