"""Somebody is cut off amid an update of weights: no packet tells the others, and they end all the same, in seconds."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event, Thread
from typing import Any, cast

import aiohttp
import pytest
import torch
from torch._C._distributed_c10d import TCPStore

from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.rollout import reach
from rljob_trainer.rollout.client import Client, ReplicaError
from rljob_trainer.weights import sender as senders
from rljob_trainer.weights.group import Group, WireError, join, open_store

PATIENCE = timedelta(seconds=200)
"""Of the group itself: what ends long before it does not end because of it."""
LONG_SECONDS = 100.0
LARGE = 64 << 20
"""Numbers; more than fits into what two sockets hold."""


@pytest.fixture
def pair() -> tuple[Group, Group]:
    """Who sends, and who receives."""
    store = open_store("127.0.0.1")
    other = TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False)
    cpu = torch.device("cpu")
    with ThreadPoolExecutor() as pool:
        joining = pool.submit(join, other, 1, 2, wire="gloo", device=cpu, timeout=PATIENCE)
        sender = join(store, 0, 2, wire="gloo", device=cpu, timeout=PATIENCE)
        receiver = joining.result()
    return sender, receiver


def at_the_second_call(do: Callable[[], None]) -> Callable[[], None]:
    """For a sender to poll with: it is called only while somebody takes nothing."""
    calls = itertools.count(1)
    return lambda: do() if next(calls) == 2 else None


def test_a_sender_that_gives_up_does_not_wait_for_who_takes_nothing(pair: tuple[Group, Group]) -> None:
    sender, receiver = pair
    give_up = at_the_second_call(Thread(target=sender.give_up).start)
    began = time.monotonic()
    with pytest.raises(WireError, match="were not waited for"):
        sender.send([("large", torch.ones(LARGE))], poll=give_up)
    assert time.monotonic() - began < LONG_SECONDS
    with pytest.raises(WireError):
        list(receiver.receive())


def test_a_sender_that_is_told_to_go_does_not_wait_for_who_takes_nothing(pair: tuple[Group, Group]) -> None:
    sender, _ = pair

    def told() -> None:
        raise Interrupted

    began = time.monotonic()
    with pytest.raises(Interrupted):
        sender.send([("large", torch.ones(LARGE))], poll=at_the_second_call(told))
    assert time.monotonic() - began < LONG_SECONDS


def test_a_receiver_hears_that_the_sender_gave_up(pair: tuple[Group, Group]) -> None:
    sender, receiver = pair
    sender.give_up()
    began = time.monotonic()
    with pytest.raises(WireError, match="gave up this update"):
        list(receiver.receive())
    assert time.monotonic() - began < LONG_SECONDS
    sender.broadcast(torch.tensor([0, 0])).wait()


def test_a_receiver_whose_questions_are_lost_waits_no_longer_than_that(
    pair: tuple[Group, Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "CUT_OFF_SECONDS", 1.0)
    monkeypatch.setattr(senders, "ASK_SECONDS", 0.1)
    healed = Event()

    class Store:
        def check(self, keys: list[str]) -> bool:
            return not healed.wait()

    sender, receiver = pair
    alone = Group(receiver.backend, cast("Any", Store()), receiver.device)
    with pytest.raises(WireError, match="cannot be reached"):
        list(alone.receive())
    healed.set()
    sender.broadcast(torch.tensor([0, 0])).wait()


def test_who_takes_no_connection_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "CUT_OFF_SECONDS", 0.5)
    monkeypatch.setattr(reach, "ASK_SECONDS", 0.1)
    with pytest.raises(ReplicaError, match=r"server 3, taking weights: it took no connection for 0\.5 s"):
        asyncio.run(asked(answers=False))


def test_who_takes_connections_may_think_for_as_long_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.setattr(reach, "CUT_OFF_SECONDS", 0.5)
    monkeypatch.setattr(reach, "ASK_SECONDS", 0.1)
    assert asyncio.run(asked(answers=True)) == "done"


async def asked(*, answers: bool) -> str:
    """A call that takes two seconds, to a server that hears of nothing else; or that takes for ever, to one that takes
    no connection any more."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()

    async def call() -> str:
        if not answers:
            server.close()
        await asyncio.sleep(2 if answers else 3600)
        return "done"

    async with server, aiohttp.ClientSession() as session:
        client = Client(3, f"http://{host}:{port}", "", session, 1)
        try:
            return await reach.while_reachable(client, "taking weights", call())
        finally:
            for writer in held:
                writer.close()
