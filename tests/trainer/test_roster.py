"""Which servers are used, and for how much: against stand-ins that answer, fall silent, go and come back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rljob_api.algorithm import Sampling
from rljob_api.stall import PhaseTimeouts
from rljob_trainer.batch import Prompt
from rljob_trainer.checkpoint.fence import FencedError
from rljob_trainer.rollout import client, roster
from rljob_trainer.rollout import dispatch as dispatching
from rljob_trainer.rollout.client import Client, Seen
from rljob_trainer.rollout.dispatch import Dispatch, Question
from rljob_trainer.rollout.guard import ATTEMPT_HEADER, INSTANCE_HEADER, WEIGHTS_HEADER
from rljob_trainer.rollout.patience import Patience
from rljob_trainer.rollout.roster import Roster
from rljob_trainer.rollout.vllm_worker import TELL, Telling
from rljob_trainer.stall.limits import Limits
from trainer.checkpoints import A_WORKER


@dataclass
class StandIn:
    """A server on a free port."""

    instance: str = "first"
    weights: str = "1.1"
    attempt: int = 1
    """The newest that it has heard of."""
    hangs: bool = False
    engine_hangs: bool = False
    """It answers, but no question: the process that serves HTTP is not the one that computes."""
    lacks: str = ""
    """What its engine answers when it is asked what it computes with, unless it can tell."""
    told: int = 0
    """How often it was asked for that."""
    port: int = 0
    asked: int = 0
    answered: int = 0
    at_once: int = 0
    """Most questions that it had in hand at a time."""
    _runner: web.AppRunner = field(init=False)
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/weight_info", self._answer)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/collective_rpc", self._tell)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._end.set()
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.at_once = max(self.at_once, self.asked - self.answered)
        if self.hangs or self.engine_hangs:
            await self._end.wait()
        await asyncio.sleep(0.01)
        self.answered += 1
        choice = {"index": 0, "token_ids": [2], "text": "", "finish_reason": "stop"}
        answer = {"choices": [choice | {"logprobs": {"token_logprobs": [-1.0]}}]}
        return web.json_response(answer, headers=self._marks)

    async def _answer(self, _: web.Request) -> web.Response:
        if self.hangs:
            await self._end.wait()
        return web.json_response({"weight_version": self.weights}, headers=self._marks)

    async def _tell(self, request: web.Request) -> web.Response:
        self.told += 1
        assert hasattr(Telling, (await request.json())["method"])
        body = {"error": self.lacks} if self.lacks else {"results": [A_WORKER.model_dump(by_alias=True)]}
        return web.json_response(body, status=500 if self.lacks else 200, headers=self._marks)

    @property
    def _marks(self) -> dict[str, str]:
        return {
            INSTANCE_HEADER: self.instance,
            ATTEMPT_HEADER: str(self.attempt),
            WEIGHTS_HEADER: self.weights,
        }


@asynccontextmanager
async def two_servers() -> AsyncIterator[tuple[list[StandIn], Roster]]:
    servers = [StandIn(), StandIn()]
    async with aiohttp.ClientSession() as session:
        for server in servers:
            await server.start()
        clients = [
            Client(index, f"http://127.0.0.1:{server.port}", "token", session, 1)
            for index, server in enumerate(servers)
        ]
        try:
            yield servers, Roster(clients)
        finally:
            for server in servers:
                await server.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """More patient than a busy machine may keep a test from answering itself: client and servers share a thread."""
    monkeypatch.setattr(client, "PROBE_SECONDS", 1.5)
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.75)
    monkeypatch.setattr(roster, "GIVEN_UP_SECONDS", 1.5)


def run(scenario: Callable[[list[StandIn], Roster], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with two_servers() as (servers, known):
            await scenario(servers, known)

    asyncio.run(whole())


async def used(known: Roster) -> list[int]:
    return [seen.client.index for seen in await known.look()]


def test_a_server_that_hangs_is_given_up_on_until_another_takes_its_place() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        assert await used(known) == [0, 1]
        servers[1].hangs = True
        assert await used(known) == [0]
        assert [broken.index for broken in known.broken] == [1]
        assert "it hangs" in known.broken[0].reason
        servers[1].hangs = False
        assert await used(known) == [0], (
            "one that comes round again has missed weights, and is being replaced"
        )
        servers[1].instance = "second"
        assert await used(known) == [0, 1]
        assert known.broken == []

    run(scenario)


def test_a_server_is_asked_once_what_it_computes_with_and_its_successor_again() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        for _ in range(3):
            assert [seen.workers for seen in await known.look()] == [(A_WORKER,), (A_WORKER,)]
        assert [server.told for server in servers] == [1, 1]
        servers[1].instance = "second"
        await known.look()
        assert [server.told for server in servers] == [1, 2]

    run(scenario)


def test_a_server_that_cannot_tell_what_it_computes_with_is_used() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        servers[1].lacks = f"Method '{TELL}' is not implemented."
        assert [seen.workers for seen in await known.look()] == [(A_WORKER,), ()]

    run(scenario)


def test_a_server_whose_engine_fails_when_it_is_asked_is_not_used() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        servers[1].lacks = "EngineDeadError"
        assert await used(known) == [0]
        assert known.broken == [], "its pod says itself how it ended"

    run(scenario)


def test_a_server_that_is_gone_is_not_called_broken() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        await used(known)
        await servers[1].stop()
        assert await used(known) == [0]
        assert known.broken == [], "its pod says itself how it ended"

    run(scenario)


def test_a_server_that_takes_no_connection_is_not_called_broken() -> None:
    """As of a pod that is gone with its address: packets to it are lost."""

    async def scenario(servers: list[StandIn], known: Roster) -> None:
        await used(known)
        await servers[1].stop()
        with taking_no_connection(servers[1].port):
            assert await used(known) == [0]
        assert known.broken == []

    run(scenario)


@contextmanager
def taking_no_connection(port: int) -> Iterator[None]:
    """A listener whose queue is full: the kernel drops whoever else asks."""
    with socket.create_server(("127.0.0.1", port), backlog=0), socket.create_connection(("127.0.0.1", port)):
        yield


def test_a_complaint_does_not_mean_a_server_that_started_after_the_last_answer() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        await used(known)
        last_answer = datetime.now(UTC)
        servers[1].hangs = True
        await used(known)
        assert datetime.fromisoformat(known.broken[0].since) <= last_answer

    run(scenario)


def test_a_server_that_has_never_answered_is_still_starting() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        servers[1].hangs = True
        assert await used(known) == [0]
        assert known.broken == []

    run(scenario)


def questions(count: int) -> list[Question]:
    prompts = [Prompt(index=index, text="", token_ids=[3], answer="") for index in range(count)]
    return [Question(prompt, 1, Sampling(), seed=index) for index, prompt in enumerate(prompts)]


async def dispatch(known: Roster, count: int, patience: Patience | None = None) -> list[int]:
    """Ask `count` questions, at most four of a server at a time; the prompts that were answered."""
    answered: list[int] = []
    servers = {seen.client.index: seen for seen in await known.look()}

    def done(question: Question, *_: object) -> None:
        answered.append(question.prompt.index)

    asked = Dispatch(servers, 1, 4, done, known.give_up_hung, patience or Patience())
    assert await asked.run(questions(count)) == []
    return sorted(answered)


def test_questions_are_spread_over_the_servers_and_none_is_given_too_many_at_a_time() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        assert await dispatch(known, 40) == list(range(40))
        assert all(server.at_once == 4 for server in servers)
        assert all(10 <= server.asked <= 30 for server in servers), "both did their part"

    run(scenario)


def test_a_single_round_of_few_questions_is_shared_too() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        await dispatch(known, 4)
        assert [server.asked for server in servers] == [2, 2]

    run(scenario)


def test_what_was_asked_of_a_server_that_hangs_is_asked_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatching, "WATCH_SECONDS", 0.1)

    async def scenario(servers: list[StandIn], known: Roster) -> None:
        answering = asyncio.create_task(dispatch(known, 40))
        while not servers[1].asked:
            await asyncio.sleep(0)
        servers[1].hangs = True
        assert await answering == list(range(40))
        assert [broken.index for broken in known.broken] == [1]

    run(scenario)


def test_a_server_whose_engine_hangs_is_given_up_on_and_the_others_answer_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatching, "WATCH_SECONDS", 0.1)

    async def scenario(servers: list[StandIn], known: Roster) -> None:
        servers[1].engine_hangs = True
        patience = Patience(Limits(PhaseTimeouts(generate=2)))
        assert await dispatch(known, 40, patience) == list(range(40))
        assert [broken.index for broken in known.broken] == [1]
        assert "has prompts in hand and has answered none for 2 s" in known.broken[0].reason

    run(scenario)


def test_a_server_that_is_idle_is_not_expected_to_answer() -> None:
    patience = Patience(Limits(PhaseTimeouts(generate=1)))
    patience.asked(0, now=0.0)
    patience.answered(0, now=0.5)
    assert patience.exhausted([], now=100.0) == []
    patience.asked(0, now=100.0)
    assert patience.exhausted([0], now=100.9) == []
    assert patience.exhausted([0], now=101.1) == [0]


def test_an_answer_of_a_process_that_took_the_place_of_the_one_with_these_weights_is_not_taken() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        found = {seen.client.index: seen for seen in await known.look()}
        servers[0].instance = "successor"
        assert "replaced by one without these weights" in await failure_of(known, found)
        assert servers[1].asked == 8, "all of them were answered by the other"

    run(scenario)


async def failure_of(known: Roster, found: dict[int, Seen]) -> str:
    """Why one of the servers that were found answers no more, while another answers all questions."""
    answered: list[int] = []
    asked = Dispatch(
        found, 1, 4, lambda question, *_: answered.append(question.prompt.index), known.give_up_hung
    )
    assert await asked.run(questions(8)) == []
    assert sorted(answered) == list(range(8))
    return str(asked.failures[0])


def test_an_answer_of_weights_that_were_changed_meanwhile_is_not_taken() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        found = {seen.client.index: seen for seen in await known.look()}
        servers[0].weights = "2.1"
        assert "the answer is of weights 2.1, not 1.1" in await failure_of(known, found)
        assert servers[1].asked == 8, "all of them were answered by the other"

    run(scenario)


def test_who_is_told_of_a_newer_attempt_asks_no_more() -> None:
    async def scenario(servers: list[StandIn], known: Roster) -> None:
        found = {seen.client.index: seen for seen in await known.look()}
        servers[0].attempt = 2
        with pytest.raises(FencedError, match=r"attempt 1 may not use .*: attempt 2 has taken them over"):
            await failure_of(known, found)
        with pytest.raises(FencedError):
            await known.look()

    run(scenario)


def test_who_waits_for_an_answer_hears_of_a_newer_attempt_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "WATCH_SECONDS", 0.1)

    async def scenario(servers: list[StandIn], known: Roster) -> None:
        found = {seen.client.index: seen for seen in await known.look()}
        for server in servers:
            server.engine_hangs, server.attempt = True, 2
        with pytest.raises(FencedError):
            await failure_of(known, found)

    run(scenario)
