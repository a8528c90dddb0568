"""The process group that weights travel through: trainer rank 0 and every rank of every live vLLM server.

It is made directly from a TCPStore, beside torch's default group, which belongs to the training ranks alone. A group
never changes: when a server is replaced or a trainer restarts, a new one is made on a new port. Used on both sides, so
it imports torch only.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from queue import Empty, Queue
from threading import Event, Thread
from typing import Literal, Protocol, cast

import torch
from torch import Tensor
from torch._C._distributed_c10d import (
    BroadcastOptions,
    PrefixStore,
    ProcessGroupGloo,
    Store,
    TCPStore,
    Work,
)
from torch.distributed import ProcessGroupNCCL

from rljob_trainer.weights.packing import BUCKET_BYTES, Bucket, NamedTensors, decode, encode, groups, pack
from rljob_trainer.weights.sender import GIVEN_UP, Sender

Wire = Literal["gloo", "nccl"]

RENDEZVOUS_TIMEOUT = timedelta(seconds=60)
"""How long the members of a group may take to meet. Short, because a server that waits here answers nothing else."""
LOOK_SECONDS = 0.5
"""How often who waits for the others looks whether that still makes sense."""


class WireError(Exception):
    """The group did not come together, or broke: a member is gone or too slow."""


class Broadcasts(Protocol):
    """The one thing asked of a backend; torch's stubs leave it out."""

    def broadcast(self, tensors: list[Tensor], options: BroadcastOptions) -> Work: ...


@dataclass(frozen=True)
class Group:
    """One member's end of the group; rank 0 sends."""

    backend: Broadcasts
    store: Store
    device: torch.device
    given_up: Event = field(default_factory=Event)

    def broadcast(self, tensor: Tensor) -> Work:
        """Start sending `tensor` from rank 0 to all, or receiving it in place."""
        options = BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        with _wire_errors():
            return self.backend.broadcast([tensor], options)

    def send(
        self, weights: NamedTensors, limit: int = BUCKET_BYTES, poll: Callable[[], None] = lambda: None
    ) -> None:
        """Send everything, as rank 0. One bucket travels while the next is packed.

        Raises `WireError`, also once it was given up. What the iterator raises passes through, and so does what `poll`
        raises, which is called while it waits.
        """
        travelling: list[Work] = []
        for group in groups(weights, limit):
            bucket = pack(group, self.device)
            self._wait(travelling, poll)
            travelling = self._post(bucket)
        self._wait(travelling, poll)
        self._wait([self.broadcast(self._size(0, 0))], poll)

    def give_up(self) -> None:
        """As rank 0: send no more, and let those know that wait for more. From any thread."""
        if not self.given_up.is_set():
            self.given_up.set()
            self.store.set(GIVEN_UP, "")

    def receive(self) -> Iterator[Bucket]:
        """What rank 0 sends, bucket by bucket; the next one arrives while the caller works on this one.

        Raises `WireError`, also when rank 0 gave up or is cut off: what was waited for then is left to itself.
        """
        arrived: Queue[Bucket | BaseException | None] = Queue(maxsize=1)
        Thread(target=self._receive_into, args=(arrived,), daemon=True, name="weights").start()
        sender = Sender(self.store)
        with sender.watched():
            while (item := _next(arrived, sender)) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item

    def _post(self, bucket: Bucket) -> list[Work]:
        header = torch.frombuffer(bytearray(encode(bucket.headers)), dtype=torch.uint8).to(self.device)
        size = self._size(len(header), len(bucket.buffer))
        return [self.broadcast(tensor) for tensor in (size, header, bucket.buffer)]

    def _size(self, header: int, buffer: int) -> Tensor:
        return torch.tensor([header, buffer], dtype=torch.int64, device=self.device)

    def _receive_into(self, arrived: Queue[Bucket | BaseException | None]) -> None:
        try:
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            while bucket := self._receive_one():
                arrived.put(bucket)
        except BaseException as error:  # handed to the caller of `receive`, which raises it
            arrived.put(error)
        else:
            arrived.put(None)

    def _receive_one(self) -> Bucket | None:
        header, buffer = self._filled(self._size(0, 0)).tolist()
        if header == 0:
            return None
        names = self._filled(torch.empty(header, dtype=torch.uint8, device=self.device))
        headers = decode(bytes(names.tolist()))
        return Bucket(headers, self._filled(torch.empty(buffer, dtype=torch.uint8, device=self.device)))

    def _wait(self, works: list[Work], poll: Callable[[], None]) -> None:
        """Until all are done, or it was given up. NCCL has its own end of patience: a wait there only queues."""
        for number, work in enumerate(works):
            try:
                while self.device.type == "cpu" and not self._is_done(work):
                    poll()
                    self._refuse_given_up()
            except BaseException:
                Thread(target=_outlive, args=(self, works[number:]), daemon=True).start()
                raise
            with _wire_errors():
                work.wait()

    def _refuse_given_up(self) -> None:
        if self.given_up.is_set():
            raise WireError("a server failed, so the others were not waited for")

    def _is_done(self, work: Work) -> bool:
        with suppress(RuntimeError):  # not within that time, or with an error that waiting again tells
            work.wait(timedelta(seconds=LOOK_SECONDS))
        return work.is_completed()

    def _filled(self, tensor: Tensor) -> Tensor:
        with _wire_errors():
            self.broadcast(tensor).wait()
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        return tensor


def _next(arrived: Queue[Bucket | BaseException | None], sender: Sender) -> Bucket | BaseException | None:
    while True:
        try:
            return arrived.get(timeout=LOOK_SECONDS)
        except Empty:
            if sender.gone:
                raise WireError("the trainer gave up this update, ended, or cannot be reached") from None


def _outlive(group: Group, works: list[Work]) -> None:
    """Keep a group until nothing of it is under way: to free it before that waits just as long, wherever it is done."""
    for work in works:
        with suppress(RuntimeError):  # it was given up: how it ends is of no use to anybody
            work.wait()
    del group


@contextmanager
def _wire_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise WireError(str(error)) from error


def address_of(host: str) -> str:
    """What its name stands for now. A pod keeps its address, while names cannot be looked up when DNS is out.

    Raises `OSError`.
    """
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def open_store(address: str) -> TCPStore:
    """Rank 0's end of the meeting point, on a free port of its own address alone. Raises `WireError`."""
    listener = socket.create_server((address, 0))
    port = listener.getsockname()[1]
    with _wire_errors():
        return TCPStore(
            address,
            port,
            is_master=True,
            timeout=RENDEZVOUS_TIMEOUT,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),  # the store closes it
        )


def join(
    store: TCPStore, rank: int, world: int, *, wire: Wire, device: torch.device, timeout: timedelta
) -> Group:
    """Meet the other members; returns when all have come.

    `timeout` bounds each broadcast from then on. Raises `WireError` when a member does not come.
    """
    members = PrefixStore("weights", store)
    with _wire_errors():
        backend = _backend(members, rank, world, wire=wire, address=_own_address(store), timeout=timeout)
    return Group(backend, store, device)


def _backend(
    members: Store, rank: int, world: int, *, wire: Wire, address: str, timeout: timedelta
) -> Broadcasts:
    match wire:
        case "gloo":
            gloo = ProcessGroupGloo._Options()  # type: ignore[attr-defined]  # missing in torch's stubs
            gloo._devices = [ProcessGroupGloo.create_device(hostname=address)]
            gloo._timeout = RENDEZVOUS_TIMEOUT
            backend = ProcessGroupGloo(members, rank, world, gloo)
            backend._set_default_timeout(timeout)
            return cast("Broadcasts", backend)
        case "nccl":
            nccl = ProcessGroupNCCL.Options()
            nccl._timeout = timeout
            over_nccl = ProcessGroupNCCL(members, rank, world, nccl)
            return cast("Broadcasts", over_nccl)


def _own_address(store: TCPStore) -> str:
    """The address that this machine has on its way to rank 0; gloo would otherwise guess from the host name."""
    kind, _, _, _, target = socket.getaddrinfo(store.host, store.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(kind, socket.SOCK_DGRAM) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])
