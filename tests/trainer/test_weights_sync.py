"""Weights and rollouts against real vLLM: two servers, a tiny model, and everything that can happen to them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from pids import children, same_image
from rljob_api.algorithm import Sampling
from rljob_api.run import Run
from rljob_api.weights import Transport
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.export import export_checkpoint
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.checkpoint.versions import process_versions
from rljob_trainer.rollout import client, dispatch
from rljob_trainer.rollout.answers import completion_request, samples_of
from rljob_trainer.rollout.fleet import Fleet
from rljob_trainer.rollout.seeds import prompt_seed
from rljob_trainer.weights.sync import WeightSync
from trainer.checkpoints import a_run as checkpoint_run
from trainer.checkpoints import save_model
from trainer.vllm_server import (
    Alone,
    Servers,
    a_run,
    largest_difference,
    make_model,
    new_weights,
    nothing,
    servers_of,
    some_prompts,
)


@dataclass
class World:
    """Two servers, the model that is trained, and the trainer's end of everything."""

    work: Path
    servers: Servers
    model: PreTrainedModel
    fleet: Fleet
    sync: WeightSync
    opened: list[Fleet]
    """Further clients, to be closed at the end."""
    attempt: int = 1
    step: int = 0

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return iter([(name, tensor.clone()) for name, tensor in self.model.named_parameters()])

    def push(self) -> None:
        self.step += 1
        self.sync.push(self.weights, self.step, nothing)

    @property
    def failure(self) -> str:
        """What the last try that failed said; empty when none did."""
        leader = self.sync._leader
        assert leader is not None
        return leader.last_failure

    def train_and_push(self, seed: int) -> None:
        new_weights(self.model, seed)
        self.push()

    def draw(
        self, prompts: list[Prompt], n: int = 4, poll: Callable[[], None] = nothing, **how: object
    ) -> list[Sample]:
        sampling = Sampling.model_validate({"max_new_tokens": 16} | how)
        return self.fleet.generate(prompts, n, sampling, seed_of=seed_of, step=self.step, poll=poll)

    def fresh(self, only: int | None = None) -> World:
        """The same servers, or one of them, through a client that remembers nothing."""
        fleet = self.open(self.servers.run.model_copy(update={"attempt": self.attempt}))
        if only is not None:
            fleet._roster.clients = [fleet._roster.clients[only]]
        return replace(self, fleet=fleet)

    def open(self, run: Run) -> Fleet:
        self.opened.append(Fleet(run))
        return self.opened[-1]

    def restart(self, transport: Transport = Transport.GLOO) -> World:
        """The trainer as it was: another attempt drives the servers from now on."""
        before = replace(self)
        run = self.servers.run
        section = run.spec.weight_sync.model_copy(update={"transport": transport})
        spec = run.spec.model_copy(update={"weight_sync": section})
        self.attempt += 1
        run = run.model_copy(update={"attempt": self.attempt, "spec": spec})
        open_storage(run)
        self.fleet = self.open(run)
        self.sync = WeightSync(run, Alone(), self.fleet)
        return before


def seed_of(prompt: Prompt) -> int:
    return prompt_seed(42, "train-1", prompt.index)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    work = tmp_path_factory.mktemp("rollout")
    model = make_model(work / "source")
    checkpoint = save_model(checkpoint_run(work / "volume"), model, work / "source")
    export_checkpoint(checkpoint, work / "model")
    run = a_run(work)
    # In a job they start with random weights.
    with servers_of(run, work, "--load-format", "auto") as (servers, fleet):
        world = World(work, servers, model, fleet, WeightSync(run, Alone(), fleet), [])
        yield world
        for opened in world.opened:
            opened.close()


def drawn(samples: list[Sample]) -> list[tuple[list[int], list[float]]]:
    return [(sample.token_ids, sample.logprobs) for sample in samples]


def test_vllm_loads_an_exported_checkpoint_by_itself(world: World) -> None:
    """Before anything was pushed, the servers hold what they found in the export that they were started with."""
    exported = AutoModelForCausalLM.from_pretrained(world.work / "model")
    prompt = some_prompts(1)[0]
    request = completion_request(prompt, 4, Sampling(max_new_tokens=16), seed=0)
    for server in world.fleet.look():
        answer = world.fleet.run(server.client.post("/v1/completions", request, "answering"), nothing)
        assert largest_difference(exported, samples_of(answer.body, prompt, 0)) < 1e-4


def test_engines_are_forked_from_their_servers(world: World) -> None:
    """Spawned, they would import everything again: vLLM asks for that on CPU."""
    for process in world.servers.processes.values():
        assert any(same_image(child, process.pid) for child in children(process.pid))


def test_servers_tell_what_their_workers_compute_with(world: World) -> None:
    """These have one thread; else they are on this machine, with what is installed here."""
    here = process_versions().model_copy(update={"threads": 1})
    assert [server.workers for server in world.fleet.look()] == [(here,), (here,)]


def test_after_a_push_logprobs_equal_those_of_transformers(world: World) -> None:
    world.train_and_push(seed=1)
    samples = world.draw(some_prompts(6))
    assert [(s.prompt.index, s.number) for s in samples] == [(p, n) for p in range(6) for n in range(4)]
    assert largest_difference(world.model, samples) < 1e-4
    said = (world.work / "server-0.log").read_text()
    assert [line for line in said.splitlines() if "HTTP/" in line or "Failed to load weights" in line] == []


def test_weights_that_were_not_pushed_are_noticed(world: World) -> None:
    world.train_and_push(seed=2)
    samples = world.draw(some_prompts(2))
    new_weights(world.model, 3)
    assert largest_difference(world.model, samples) > 0.1
    world.push()
    assert largest_difference(world.model, world.draw(some_prompts(2))) < 1e-4


@pytest.mark.parametrize("how", [{"temperature": "0.7"}, {"top_p": "0.9"}])
def test_logprobs_are_those_of_the_distribution_sampled_from(world: World, how: dict[str, str]) -> None:
    world.train_and_push(seed=4)
    samples = world.draw(some_prompts(4), 4, nothing, **how)
    exact = {name: float(value) for name, value in how.items()}
    assert largest_difference(world.model, samples, **exact) < 1e-4
    assert largest_difference(world.model, samples) > 1e-2, "the plain softmax would not have been noticed"


def test_samples_depend_neither_on_batch_nor_order_nor_replica(world: World) -> None:
    world.train_and_push(seed=5)
    prompts = some_prompts(8)
    together = drawn(world.draw(prompts))
    backwards = world.fresh().draw(prompts[::-1])
    assert drawn(sorted(backwards, key=lambda s: (s.prompt.index, s.number))) == together
    for index in range(2):
        one_by_one = [sample for prompt in prompts for sample in world.fresh(only=index).draw([prompt])]
        assert drawn(one_by_one) == together
    assert len({tuple(tokens) for tokens, _ in together}) == len(together), "numbers of a prompt differ"


def test_weights_travel_over_the_volume_too(world: World) -> None:
    world.restart(Transport.DISK)
    for seed in (6, 7):
        world.train_and_push(seed)
        assert largest_difference(world.model, world.draw(some_prompts(3))) < 1e-4
    folder = Path(world.servers.run.paths.storage) / "weights"
    assert [path.name for path in folder.iterdir()] == [f"{world.attempt}.{world.step}"]


def test_an_attempt_that_comes_back_neither_pushes_nor_draws_once_a_newer_one_has_the_servers(
    world: World,
) -> None:
    world.train_and_push(seed=17)
    returned = world.restart()
    assert returned.draw(some_prompts(1)), "nobody has asked for the newer one yet"
    world.train_and_push(seed=18)
    expected = drawn(world.draw(some_prompts(3)))
    new_weights(world.model, 19)
    sentence = rf"attempt {returned.attempt} may not use .*: attempt {world.attempt} has taken them over"
    with pytest.raises(FencedError, match=sentence):
        returned.push()
    with pytest.raises(FencedError, match=sentence):
        returned.draw(some_prompts(2))
    assert drawn(world.fresh().draw(some_prompts(3))) == expected, (
        "the servers hold what the newer one pushed"
    )


def test_an_interruption_ends_generation_at_once_and_the_servers_stay_usable(world: World) -> None:
    world.train_and_push(seed=8)
    polls = 0

    def poll() -> None:
        nonlocal polls
        polls += 1
        if polls > 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        world.draw(some_prompts(64), n=32, poll=poll, max_new_tokens=100)
    assert polls == 9
    assert len(world.draw(some_prompts(1))) == 4


DIES_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
import torch
from rljob_api.run import Run
from rljob_trainer.rollout.fleet import Fleet
from rljob_trainer.weights.group import Group
from rljob_trainer.weights.sync import WeightSync

class Alone:
    leads = True
    def from_leader(self, make): return make()

def weights():
    # Parts of fused layers arrive, one tensor a bucket, and then no more.
    yield "model.layers.0.self_attn.q_proj.weight", torch.ones(64, 64)
    yield "model.layers.0.mlp.gate_proj.weight", torch.ones(128, 64)
    yield "model.norm.weight", torch.ones(64)
    os.kill(os.getpid(), signal.SIGKILL)

send = Group.send
Group.send = lambda self, stream, limit: send(self, stream, 1)
run = Run.model_validate_json(Path(sys.argv[1]).read_text())
WeightSync(run, Alone(), Fleet(run)).push(weights, 99, lambda: None)
"""


def test_a_trainer_killed_amid_an_update_leaves_servers_that_the_next_attempt_can_use(
    world: World, tmp_path: Path
) -> None:
    world.train_and_push(seed=9)
    doomed = tmp_path / "run.json"
    world.attempt += 1
    run = world.servers.run.model_copy(update={"attempt": world.attempt})
    doomed.write_text(run.model_dump_json(by_alias=True))
    trainer = subprocess.run(
        [sys.executable, "-c", DIES_IN_THE_MIDDLE, str(doomed)], timeout=200, check=False
    )
    assert trainer.returncode == -signal.SIGKILL
    world.restart()
    world.train_and_push(seed=10)
    assert world.failure == "", "one push was enough"
    assert largest_difference(world.model, world.draw(some_prompts(6))) < 1e-4


def test_a_killed_server_loses_no_prompt_and_its_successor_serves_only_after_a_push(world: World) -> None:
    world.restart()
    world.train_and_push(seed=11)
    prompts = some_prompts(48, seed=1)
    expected = drawn(world.draw(prompts, n=8, max_new_tokens=64))
    polls = 0

    def kill_one() -> None:
        nonlocal polls
        polls += 1
        if polls == 3:
            world.servers.kill(1)

    samples = world.fresh().draw(prompts, n=8, max_new_tokens=64, poll=kill_one)
    assert polls > 3, "the server was killed too late to matter"
    assert drawn(samples) == expected
    world.train_and_push(seed=12)
    assert serving(world) == {0}
    assert largest_difference(world.model, world.draw(some_prompts(3))) < 1e-4
    world.servers.start(1)
    world.servers.wait_until_up(world.fleet, {1})
    assert serving(world) == {0}
    world.train_and_push(seed=13)
    assert serving(world) == {0, 1}
    assert largest_difference(world.model, world.fresh(only=1).draw(some_prompts(3))) < 1e-4


def test_a_server_that_hangs_loses_no_prompt_and_is_reported_to_be_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP: it takes connections, and says nothing. Nothing but a new process is trusted in its place."""
    monkeypatch.setattr(client, "PROBE_SECONDS", 6.0)
    monkeypatch.setattr(dispatch, "WATCH_SECONDS", 1.0)
    world.train_and_push(seed=14)
    prompts = some_prompts(8, seed=2)
    expected = drawn(world.draw(prompts))
    ask = dispatch.Dispatch.run

    def ask_once_it_hangs(*args: Any) -> Any:
        world.servers.hang(1)
        return ask(*args)

    again = world.fresh()
    with monkeypatch.context() as only_now:
        only_now.setattr(dispatch.Dispatch, "run", ask_once_it_hangs)
        assert drawn(again.draw(prompts)) == expected
    assert [broken.index for broken in again.fleet.broken] == [1]
    world.train_and_push(seed=15)
    assert serving(world) == {0}
    assert "it hangs" in world.fleet.broken[0].reason
    world.servers.wake(1)
    world.train_and_push(seed=16)
    assert serving(world) == {0}
    assert largest_difference(world.model, world.draw(some_prompts(3))) < 1e-4


def serving(world: World) -> set[int]:
    return set(world.fleet._serving(world.step, nothing))
