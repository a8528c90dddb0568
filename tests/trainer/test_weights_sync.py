"""Weights and rollouts against real vLLM: two servers, a tiny model, and everything that can happen to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import TypeVar

import pytest
import torch
from rljob_api.algorithm import Sampling
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.rollout.fleet import Fleet
from rljob_trainer.rollout.seeds import prompt_seed
from rljob_trainer.weights.sync import WeightSync
from torch import Tensor
from trainer.vllm_server import (
    Servers,
    a_run,
    eventually,
    largest_difference,
    make_model,
    new_weights,
    nothing,
    some_prompts,
)
from transformers import PreTrainedModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
T = TypeVar("T")


class Alone:
    """A gang of one rank."""

    leads = True

    def from_leader(self, make: Callable[[], T]) -> T:
        return make()


@dataclass
class World:
    """Two servers, the model that is trained, and the trainer's end of everything."""

    servers: Servers
    model: PreTrainedModel
    fleet: Fleet
    sync: WeightSync
    step: int = 0

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return iter([(name, tensor.clone()) for name, tensor in self.model.named_parameters()])

    def push(self) -> None:
        self.step += 1
        self.sync.push(self.weights, self.step, nothing)

    def train_and_push(self, seed: int) -> None:
        new_weights(self.model, seed)
        self.push()

    def draw(self, prompts: list[Prompt], n: int = 4, poll: Callable[[], None] = nothing, **how: object) -> list[Sample]:
        sampling = Sampling.model_validate({"max_new_tokens": 16} | how)
        return self.fleet.generate(prompts, n, sampling, seed_of, self.step, poll)

    def as_attempt(self, number: int, transport: str = "gloo") -> World:
        """A trainer that was restarted, before the same servers."""
        section = {"transport": transport, "timeoutSeconds": 60}
        spec = self.servers.run.spec.model_copy(update={"weight_sync": type(self.servers.run.spec.weight_sync).parse(section)})
        run = self.servers.run.model_copy(update={"attempt": number, "spec": spec})
        fleet = Fleet(run)
        return replace(self, fleet=fleet, sync=WeightSync(run, Alone(), fleet))


def seed_of(prompt: Prompt) -> int:
    return prompt_seed(42, "train-1", prompt.index)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    work = tmp_path_factory.mktemp("rollout")
    model = make_model(work / "model")
    run = a_run(work)
    servers, fleet = Servers(run, work), Fleet(run)
    try:
        for index in range(2):
            servers.start(index)
        servers.wait_until_up(fleet, {0, 1})
        yield World(servers, model, fleet, WeightSync(run, Alone(), fleet))
    finally:
        fleet.close()
        servers.stop()


def drawn(samples: list[Sample]) -> list[tuple[list[int], list[float]]]:
    return [(sample.token_ids, sample.logprobs) for sample in samples]


def test_after_a_push_logprobs_equal_those_of_transformers(world: World) -> None:
    world.train_and_push(seed=1)
    samples = world.draw(some_prompts(6))
    assert [(s.prompt.index, s.number) for s in samples] == [(p, n) for p in range(6) for n in range(4)]
    assert largest_difference(world.model, samples) < 1e-4


def test_weights_that_were_not_pushed_are_noticed(world: World) -> None:
    world.train_and_push(seed=2)
    samples = world.draw(some_prompts(2))
    new_weights(world.model, 3)
    assert largest_difference(world.model, samples) > 0.1
    world.push()
    assert largest_difference(world.model, world.draw(some_prompts(2))) < 1e-4
