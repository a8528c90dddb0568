"""Weight sync as the loop calls it: after `push` returns, at least `minReplicas` servers serve exactly these weights.

All training ranks call `push`; rank 0 speaks with the servers, the others only take part in gathering the weights. A
failed update is pushed again as a whole, over a new group; a server that fails twice is given up on and the operator
replaces it. A server that appears later gets weights with the next push and serves nothing until then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain, islice
from typing import Protocol, TypeVar

from torch import Tensor

from rljob_api.run import Run
from rljob_api.weights import Transport
from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.checkpoint.directory import Storage
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.errors import Mistake
from rljob_trainer.rollout.client import ReplicaError, Seen
from rljob_trainer.rollout.fleet import Fleet, Poll, wire_version
from rljob_trainer.weights.carriers import Carrier, DiskCarrier, GroupCarrier, chosen_transport
from rljob_trainer.weights.group import WireError, address_of
from rljob_trainer.weights.rounds import Rounds, SeveralFailedError

T = TypeVar("T")
Weights = Callable[[], Iterator[tuple[str, Tensor]]]
"""`backend.weights`: called anew for every try, on all ranks."""

FAILURES_ALLOWED = 2
"""A server that failed so often is given up on."""

MAX_TRIES = 5


class SyncFailedError(RuntimeError):
    """The weights did not reach enough servers in the tries allowed."""


class Gang(Protocol):
    """The part of `distributed.Ranks` that sync needs."""

    @property
    def leads(self) -> bool: ...

    def from_leader(self, make: Callable[[], T]) -> T: ...


class WeightSync:
    """Pushes weights to the fleet. Every rank has one; only rank 0's has a fleet."""

    def __init__(self, run: Run, ranks: Gang, fleet: Fleet | None, rounds: Rounds | None = None) -> None:
        """`rounds` may be given on the rank that leads, to watch the calls made to servers."""
        self.transport = chosen_transport(run.spec.weight_sync.transport, run.spec.on_gpu)
        self._ranks = ranks
        self._leader: LeaderSync | None = None
        if fleet is not None:
            rounds = rounds or Rounds(fleet, run.spec.weight_sync.timeout_seconds)
            self._leader = LeaderSync(run, rounds, self.transport)

    def push(self, weights: Weights, step: int, poll: Poll) -> None:
        """Collective. Give all servers the weights of `step`, waiting for `minReplicas` of them if need be.

        `poll` is called on rank 0 while it waits, for whatever, and may raise `Interrupted`: then all ranks do. Raises
        `SyncFailedError`, `FencedError` once a newer attempt has the servers or the volume, and `StorageError` or
        `Mistake` where the volume refuses.
        """
        for _ in range(MAX_TRIES):
            self._ranks.from_leader(lambda: self._leader.gather(poll) if self._leader else None)
            self._transmit(weights(), step, poll)
            if self._ranks.from_leader(lambda: self._leader is not None and self._leader.outcome()):
                return
        failures = self._ranks.from_leader(lambda: self._leader.last_failure if self._leader else "")
        raise SyncFailedError(f"weights of step {step} did not reach the rollout servers: {failures}")

    def _transmit(self, weights: Iterator[tuple[str, Tensor]], step: int, poll: Poll) -> None:
        """Rank 0 sends; every rank exhausts the iterator whatever happens, as each tensor is gathered by all."""
        try:
            if self._leader is not None:
                self._leader.transmit(weights, step, poll)
        finally:
            for _ in weights:
                pass


class LeaderSync:
    """Rank 0's part: who gets the weights, and whose fault it was."""

    def __init__(self, run: Run, rounds: Rounds, transport: Transport) -> None:
        self.last_failure = ""
        self._succeeded = False
        self._final: Exception | None = None
        self._fleet = rounds.fleet
        self._attempt = run.attempt
        self._rounds = rounds
        self._carrier = carrier_of(run, transport)
        self._servers: list[Seen] = []
        self._failures: Counter[tuple[int, str]] = Counter()

    def gather(self, poll: Poll) -> int:
        """Wait until enough servers are up: these get the weights. Returns how many."""
        self._servers = self._fleet.wait_until_up(poll)
        return len(self._servers)

    def transmit(self, weights: Iterator[tuple[str, Tensor]], step: int, poll: Poll) -> None:
        """One try. Never raises for what a server, the network or the volume did, nor when it is told to go: `outcome`
        tells all ranks."""
        self._succeeded = False
        try:
            self._try(weights, wire_version(self._attempt, step), replace(self._rounds, poll=poll))
        except Interrupted as told:
            self._carrier.disconnect()
            self._final = told
        except (FencedError, StorageError, Mistake) as error:
            self._final = error

    def outcome(self) -> bool:
        """Whether the last try succeeded. Raises what another try would not mend."""
        if self._final:
            raise self._final
        return self._succeeded

    def _try(self, weights: Iterator[tuple[str, Tensor]], version: str, rounds: Rounds) -> None:
        try:
            pausing = rounds.pause(self._servers)
            weights = begun(weights)
            rounds.wait(pausing)
            self._carrier.connect(rounds, self._servers)
            rounds.begin(self._servers)
            self._carrier.carry(weights, version, rounds, self._servers)
            rounds.finish(self._servers, version)
        except (SeveralFailedError, WireError) as error:
            self._carrier.disconnect()
            self.last_failure = str(error)
            self._blame(error, rounds.poll)
        else:
            self._succeeded = True
            self._failures.clear()

    def _blame(self, error: Exception, poll: Poll) -> None:
        """A server that went away explains the errors of those it left behind; else each answers for its own."""
        there = {server.client.index: server.instance for server in self._fleet.look(poll)}
        if any(there.get(server.client.index) != server.instance for server in self._servers):
            return
        failed = {e.replica: e for e in error.errors} if isinstance(error, SeveralFailedError) else {}
        for server in self._servers:
            if own := failed.get(server.client.index):
                self._count(server, own)

    def _count(self, server: Seen, error: ReplicaError) -> None:
        key = (server.client.index, server.instance)
        self._failures[key] += 1
        if self._failures[key] >= FAILURES_ALLOWED:
            self._fleet.give_up(server, str(error))


def begun(weights: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The same, with the first tensor there and those after it on their way."""
    return chain([*islice(weights, 1)], weights)


def carrier_of(run: Run, transport: Transport) -> Carrier:
    timeout = timedelta(seconds=run.spec.weight_sync.timeout_seconds)
    each = run.spec.rollout.tensor_parallel
    match transport:
        case Transport.DISK:
            return DiskCarrier(Storage.of(run))
        case Transport.GLOO:
            return GroupCarrier("gloo", address_of(run.master_addr), each, timeout)
        case Transport.NCCL:
            return GroupCarrier("nccl", address_of(run.master_addr), each, timeout)
        case Transport.AUTO:
            raise ValueError("auto is chosen before")
