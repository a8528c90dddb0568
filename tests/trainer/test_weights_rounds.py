"""Control calls: to servers that an earlier trainer left in the middle of an update, and to those of several ranks."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, cast

import aiohttp
import pytest
import torch
from torch._C._distributed_c10d import TCPStore

from rljob_api.base import Manifest
from rljob_trainer.rollout.background import Background
from rljob_trainer.rollout.client import Client, Seen
from rljob_trainer.rollout.fleet import Fleet
from rljob_trainer.weights.carriers import GroupCarrier
from rljob_trainer.weights.group import Group, join
from rljob_trainer.weights.rounds import Rounds

RESET = struct.pack("ii", 1, 0)
REFUSED, DONE = "500 Internal Server Error", "200 OK"


class Vllm:
    """As vLLM's server is: it closes the connection after an error, but says so only if it was asked to close it.

    On a busy machine it closes late: here, when the next request has come.
    """

    def __init__(self, answers: list[str]) -> None:
        self._answers = iter(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closes = b"connection: close" in await request(reader)
        said = "Connection: close\r\n" if closes else ""
        writer.write(f"HTTP/1.1 {next(self._answers)}\r\n{said}Content-Length: 0\r\n\r\n".encode())
        if await reader.read(1):
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        writer.close()


async def request(reader: asyncio.StreamReader) -> list[bytes]:
    """Its head, in small letters."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower().splitlines()
    length = [line for line in head if line.startswith(b"content-length:")]
    await reader.readexactly(int(length[0].partition(b":")[2]) if length else 0)
    return head


@pytest.fixture
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.close()


def fleet(background: Background) -> Fleet:
    """What rounds need of it."""

    class Loop:
        start = staticmethod(background.submit)
        wait = staticmethod(background.wait)

    return cast("Fleet", Loop())


async def leave(rounds: Rounds, vllm: Vllm) -> None:
    server = await asyncio.start_server(vllm.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, aiohttp.ClientSession() as session:
        client = Client(0, f"http://{host}:{port}", "", session, 1)
        seen = Seen(client, "one", "1.1", datetime.now(UTC))
        await asyncio.to_thread(rounds.leave, [seen])


def test_a_server_in_an_open_update_is_brought_out_of_it(background: Background) -> None:
    rounds = Rounds(fleet(background), 10)
    background.submit(leave(rounds, Vllm([REFUSED, REFUSED, DONE]))).result(30)


RANKS_EACH = 2


@dataclass
class Spread:
    """In place of the client of a server that spreads its model over ranks, which are threads here."""

    index: int
    meeting: Manifest = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    taken: list[list[str]] = field(default_factory=list)
    """Names of the tensors that each rank has taken."""

    async def post(self, path: str, body: Manifest | None, *_: object, **__: object) -> None:
        if path == "/init_weight_transfer_engine" and body:
            self.meeting = body["init_info"]
            joining = (asyncio.to_thread(self._join, rank) for rank in range(RANKS_EACH))
            self.groups = await asyncio.gather(*joining)
        elif path == "/update_weights":
            self.taken = await asyncio.gather(*(asyncio.to_thread(names, group) for group in self.groups))

    async def takes_connections(self) -> bool:
        return True

    def _join(self, rank: int) -> Group:
        store = TCPStore(self.meeting["host"], self.meeting["port"], is_master=False, wait_for_workers=False)
        place, world = self.meeting["rank_offset"] + rank, self.meeting["world_size"]
        return join(
            store, place, world, wire="gloo", device=torch.device("cpu"), timeout=timedelta(seconds=200)
        )


def names(group: Group) -> list[str]:
    return [name for bucket in group.receive() for name, _ in bucket.tensors()]


def test_every_rank_of_every_server_has_a_place_of_its_own_in_the_group(background: Background) -> None:
    clients = [Spread(0), Spread(1)]
    servers = [Seen(cast("Any", client), "one", "", datetime.now(UTC)) for client in clients]
    rounds = Rounds(fleet(background), 10)
    carrier = GroupCarrier("gloo", "127.0.0.1", RANKS_EACH, timedelta(seconds=200))
    carrier.connect(rounds, servers)
    assert [client.meeting["rank_offset"] for client in clients] == [1, 3]
    assert [client.meeting["world_size"] for client in clients] == [5, 5]
    carrier.carry(iter([("head", torch.ones(3)), ("norm", torch.ones(2))]), "1.1", rounds, servers)
    assert [client.taken for client in clients] == [[["head", "norm"]] * RANKS_EACH] * 2
