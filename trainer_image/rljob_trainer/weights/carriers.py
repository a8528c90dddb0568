"""How one stream of weights is carried to many servers: through a process group, or over the shared volume.

Both are driven by `sync.py` on trainer rank 0 alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import torch

from rljob_api.weights import Transport
from rljob_trainer.checkpoint.directory import Storage
from rljob_trainer.futures import in_thread
from rljob_trainer.rollout.client import Seen
from rljob_trainer.weights.disk import write_parts
from rljob_trainer.weights.group import Group, Wire, WireError, join, open_store
from rljob_trainer.weights.packing import BUCKET_BYTES, NamedTensors
from rljob_trainer.weights.rounds import Rounds


class Carrier(Protocol):
    """One way for weights to travel."""

    def connect(self, rounds: Rounds, servers: list[Seen]) -> None:
        """Be ready to reach exactly these servers. Raises `SeveralFailedError` or `WireError`."""
        ...

    def carry(self, weights: NamedTensors, version: str, rounds: Rounds, servers: list[Seen]) -> None:
        """Send all weights and wait until all servers have taken them. Raises `SeveralFailedError` or `WireError`, and
        what the volume refuses.
        """
        ...

    def disconnect(self) -> None:
        """Forget the connection, and let go who waits on it; the next `connect` makes a new one."""
        ...


class GroupCarrier:
    """Broadcast from rank 0, by gloo or NCCL."""

    def __init__(
        self, wire: Wire, address: str, tensor_parallel: int, timeout: timedelta, limit: int = BUCKET_BYTES
    ) -> None:
        self._wire: Wire = wire
        self._address = address
        self._ranks_each = tensor_parallel
        self._timeout = timeout
        self._limit = limit
        self._group: Group | None = None
        self._members: list[tuple[int, str]] = []

    def connect(self, rounds: Rounds, servers: list[Seen]) -> None:
        members = [(server.client.index, server.instance) for server in servers]
        if self._group is not None and members == self._members:
            return
        self.disconnect()
        rounds.leave(servers)
        world = 1 + self._ranks_each * len(servers)
        store = open_store(self._address)
        meeting = {
            "host": self._address,
            "port": store.port,
            "world_size": world,
            "wire": self._wire,
            "timeout_seconds": self._timeout.total_seconds(),
        }
        joining = rounds.meet(servers, meeting, self._ranks_each)
        try:
            device = _device(self._wire)
            wire, timeout = self._wire, self._timeout
            meeting_up = in_thread(
                lambda: join(store, 0, world, wire=wire, device=device, timeout=timeout), "weights"
            )
            self._group = rounds.wait(meeting_up)
        finally:
            rounds.wait(joining)  # a server's own word says more than a meeting that did not come about
        self._members = members

    def carry(self, weights: NamedTensors, version: str, rounds: Rounds, servers: list[Seen]) -> None:
        assert self._group is not None
        taking = rounds.update(servers, {"group": True}, self._group.give_up)
        try:
            self._group.send(weights, self._limit, rounds.poll)
        except WireError:
            self._group.give_up()
            rounds.wait(taking)  # a server's own word, if there is one, says more than a closed connection
            raise
        rounds.wait(taking)

    def disconnect(self) -> None:
        if self._group is not None:
            self._group.give_up()
        self._group, self._members = None, []


class DiskCarrier:
    """Files on the volume that trainer and rollouts share."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def connect(self, rounds: Rounds, servers: list[Seen]) -> None:
        """Nothing to connect."""

    def carry(self, weights: NamedTensors, version: str, rounds: Rounds, servers: list[Seen]) -> None:
        source = write_parts(self._storage, version, weights)
        rounds.wait(rounds.update(servers, source, _nothing))

    def disconnect(self) -> None:
        """Nothing to forget."""


def _nothing() -> None:
    """Nobody waits for a server that fails to read."""


def chosen_transport(transport: Transport, on_gpu: bool) -> Transport:
    """`auto` is NCCL on GPUs and gloo on CPU."""
    if transport is Transport.AUTO:
        return Transport.NCCL if on_gpu else Transport.GLOO
    return transport


def _device(wire: Wire) -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if wire == "nccl" else torch.device("cpu")
