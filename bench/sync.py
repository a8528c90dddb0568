"""A weight sync to real vLLM servers over a raw broadcast of the same bytes between as many processes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch._C._distributed_c10d import TCPStore

from bench.gang import ranks_here, together
from bench.job import servers as started
from bench.model import Shape, make_qwen3
from bench.result import Check, Result, at_least, at_most
from bench.rounds import ROUNDS, Seconds, take_turns
from rljob_api.base import Manifest
from rljob_api.run import Run
from rljob_trainer.backend.build import build_backend
from rljob_trainer.rollout.client import Seen
from rljob_trainer.rollout.fleet import Fleet
from rljob_trainer.weights.group import Group, join, open_store
from rljob_trainer.weights.rounds import Rounds
from rljob_trainer.weights.sync import WeightSync
from trainer.ranks import run_ranks
from trainer.vllm_server import a_run, nothing

SHAPE = Shape(hidden=768, layers=6, vocabulary=16384)
LAYOUTS = {"1 rank, 1 server": (1, 1), "2 ranks, 2 servers": (2, 2)}
FIXED_SECONDS, TIMES, LEAST_MB = 0.1, 2.0, 200.0
PATIENCE = timedelta(minutes=5)
WARM_UP = 1


def measure(folder: Path) -> Result:
    parameters = make_qwen3(folder / "model", SHAPE)
    size = 4 * parameters
    seconds: Seconds = {}
    for name, (ranks, servers) in LAYOUTS.items():
        turns = measure_layout(folder, ranks, servers, size)
        seconds |= {f"{name}: {what}": values for what, values in turns.items()}
    return Result(
        name="sync",
        checks=[*(check(name, seconds) for name in LAYOUTS), large_enough(size)],
        seconds=seconds,
        facts={"parameters": parameters, "megabytes": round(size / 1e6, 1), "carrier": "gloo"},
        comment="`WeightSync.push` as the loop calls it (FSDP's shards gathered, servers paused, weights sent, loaded"
        " and verified, servers resumed, one real answer), from the dtensor backend to vLLM servers with random"
        " weights. The broadcast is one tensor in a group of the same kind between as many processes that do nothing"
        f" else. Target: sync ≤ {FIXED_SECONDS} s + {TIMES:g} x broadcast. Over it: shards come from the other rank,"
        " are copied into a bucket, and on the server's side once more by vLLM's loader and packed for oneDNN, all on"
        " the same two cores as the broadcast itself, which is one copy through loopback; vLLM waits 20 ms to pause.",
    )


def check(layout: str, seconds: Seconds) -> Check:
    sync, broadcast = (median(seconds[f"{layout}: {what}"]) for what in ("sync", "broadcast"))
    return at_most(f"sync over its allowance, {layout}", sync / (FIXED_SECONDS + TIMES * broadcast), 1.0)


def large_enough(size: int) -> Check:
    return at_least("megabytes of the weights", size / 1e6, LEAST_MB)


def measure_layout(folder: Path, ranks: int, servers: int, size: int, **sections: Any) -> Seconds:
    run = sync_run(folder, ranks, servers, **sections)
    with started(run, folder):
        return run_ranks(ranks, on_rank, run, folder, size, deadline=500)[0]


def sync_run(folder: Path, ranks: int, servers: int, **sections: Any) -> Run:
    return a_run(
        folder,
        replicas=servers,
        trainer={"numProcPerNode": ranks},
        rollout={
            "replicas": servers,
            "minReplicas": servers,
            "vllm": {"kvCacheMib": 64, "maxModelLen": 128},
        },
        **sections,
    )


@dataclass(frozen=True)
class TimedRounds(Rounds):
    """Remembers when each part of a sync began."""

    began: list[float] = field(default_factory=list)

    def pause(self, servers: list[Seen]) -> Future[None]:
        self.began.append(time.monotonic())
        return super().pause(servers)

    def begin(self, servers: list[Seen]) -> None:
        self.began.append(time.monotonic())
        super().begin(servers)

    def update(self, servers: list[Seen], source: Manifest, failed: Callable[[], None]) -> Future[None]:
        self.began.append(time.monotonic())
        return super().update(servers, source, failed)

    def finish(self, servers: list[Seen], version: str) -> None:
        self.began.append(time.monotonic())
        super().finish(servers, version)
        self.began.append(time.monotonic())

    @property
    def parts(self) -> Seconds:
        """Of the syncs that count; each noted five moments."""
        syncs = [self.began[first : first + 5] for first in range(0, len(self.began), 5)][-ROUNDS:]
        names = ("pausing", "making ready", "sending and loading", "finishing, resuming, one answer")
        return {
            f"of the sync, {name}": [times[number + 1] - times[number] for times in syncs]
            for number, name in enumerate(names)
        }


def on_rank(run: Run, folder: Path, size: int) -> Seconds:
    ranks = ranks_here()
    backend = build_backend(run, folder / "model", reference=False)
    with ExitStack() as open_things:
        fleet, send = None, nothing
        if ranks.leads:
            fleet = open_things.enter_context(closing(Fleet(run)))
            send = open_things.enter_context(raw_broadcast(run.spec.rollout.replicas, size))
        rounds = TimedRounds(fleet, run.spec.weight_sync.timeout_seconds) if fleet else None
        sync, steps = WeightSync(run, ranks, fleet, rounds), count(1)
        seconds = take_turns(
            {
                "sync": lambda: together(ranks, lambda: sync.push(backend.weights, next(steps), nothing)),
                "broadcast": lambda: together(ranks, send),
            },
            warm_up=WARM_UP,
        )
        return seconds | (rounds.parts if rounds else {})


@contextmanager
def raw_broadcast(receivers: int, size: int) -> Iterator[Callable[[], None]]:
    """Sends `size` bytes to as many other processes as there are servers."""
    store = open_store("127.0.0.1")
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=receive, args=(store.port, 1 + index, 1 + receivers, size), daemon=True)
        for index in range(receivers)
    ]
    for other in others:
        other.start()
    group = member(store, 0, 1 + receivers)
    content = torch.ones(size, dtype=torch.uint8)

    def send() -> None:
        group.broadcast(content).wait()

    try:
        yield send
        for other in others:
            other.join(PATIENCE.total_seconds())
    finally:
        for other in others:
            other.kill()


def receive(port: int, rank: int, world: int, size: int) -> None:
    """Another process's end: takes what comes into the same memory every time."""
    group = member(TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False), rank, world)
    content = torch.zeros(size, dtype=torch.uint8)
    for _ in range(WARM_UP + ROUNDS):
        group.broadcast(content).wait()


def member(store: TCPStore, rank: int, world: int) -> Group:
    return join(store, rank, world, wire="gloo", device=torch.device("cpu"), timeout=PATIENCE)
