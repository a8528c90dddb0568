"""Control calls to servers that an earlier trainer left in the middle of an update."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, cast

import aiohttp
import pytest

from rljob_trainer.rollout.background import Background
from rljob_trainer.rollout.client import Client, Seen
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


async def leave(rounds: Rounds, vllm: Vllm) -> None:
    server = await asyncio.start_server(vllm.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, aiohttp.ClientSession() as session:
        client = Client(0, f"http://{host}:{port}", "", session, 1)
        seen = Seen(client, "one", "1.1", datetime.now(UTC))
        await asyncio.to_thread(rounds.leave, [seen])


def test_a_server_in_an_open_update_is_brought_out_of_it(background: Background) -> None:
    class Fleet:
        start = staticmethod(background.submit)
        wait = staticmethod(background.wait)

    rounds = Rounds(cast("Any", Fleet()), 10)
    background.submit(leave(rounds, Vllm([REFUSED, REFUSED, DONE]))).result(30)
