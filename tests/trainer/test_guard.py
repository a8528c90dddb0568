"""Who may ask a rollout server: whoever has the job's token, and of the attempts only the newest."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from rljob_trainer.rollout.guard import ATTEMPT_HEADER, TOKEN_ENV, WEIGHTS_HEADER, ControlGuard

START, FINISH, ASK = "/start_weight_update", "/finish_weight_update", "/v1/completions"


@dataclass
class Heard:
    """What a server answers with."""

    status: int
    marks: dict[str, str]
    body: str = ""


@dataclass
class Server:
    """A guarded application that does what it is asked, and says what it was asked."""

    asked: list[str] = field(default_factory=list)
    meanwhile: tuple[str, int, str] | None = None
    """A request that comes while the next one is under way."""
    fails: bool = False

    def __post_init__(self) -> None:
        self.guard = ControlGuard(self._app)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        if meanwhile := self.meanwhile:
            self.meanwhile = None
            await self._told(*meanwhile)
        status = 500 if self.fails else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def told(
        self, path: str, attempt: int | None = None, weights: str = "", *, token: str = "secret"
    ) -> Heard:
        """Its answer to a request of this attempt."""
        return asyncio.run(self._told(path, attempt, weights, token))

    async def _told(
        self, path: str, attempt: int | None = None, weights: str = "", token: str = "secret"
    ) -> Heard:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = {"authorization": f"Bearer {token}" if token else "", WEIGHTS_HEADER: weights}
        if attempt is not None:
            headers[ATTEMPT_HEADER] = str(attempt)
        scope = {
            "type": "http",
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value],
        }
        await self.guard(scope, reads_no_body, send)
        marks = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Heard(sent[0]["status"], marks, sent[1]["body"].decode())

    def push(self, attempt: int, version: str) -> list[int]:
        """An update of its weights; the status of each call."""
        calls = [self.told(START, attempt), self.told("/update_weights", attempt)]
        return [heard.status for heard in (*calls, self.told(FINISH, attempt, version))]


async def reads_no_body() -> Any:
    raise AssertionError("the guard reads no body")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv(TOKEN_ENV, "secret")
    return Server()


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_probes_are_open(server: Server, path: str) -> None:
    assert server.told(path, token="").status == 200


@pytest.mark.parametrize(
    "path",
    ["/pause", "/update_weights", "/collective_rpc", "/v1/completions", "/health/", "/what-comes-next"],
)
def test_every_other_route_wants_the_token(server: Server, path: str) -> None:
    assert server.told(path, token="").status == 401
    assert server.told(path, token="wrong").status == 401
    assert server.told(path).status == 200


def test_a_websocket_wants_the_token_too(server: Server) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(server.guard({"type": "websocket", "path": "/health", "headers": []}, reads_no_body, send))
    assert sent[0]["code"] == 1008


def test_a_server_without_a_token_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_ENV, raising=False)
    with pytest.raises(RuntimeError, match=TOKEN_ENV):
        Server()


def test_once_a_newer_attempt_has_asked_the_older_one_changes_nothing(server: Server) -> None:
    assert server.push(1, "1.4") == [200, 200, 200]
    assert server.told("/weight_info", 2).status == 200
    server.asked.clear()
    assert server.push(1, "1.5") == [409, 409, 409]
    refused = server.told("/pause", 1)
    assert refused.body == (
        '{"error": "attempt 1 may not use this server any more: attempt 2 has taken it over"}'
    )
    assert refused.marks[ATTEMPT_HEADER] == "2"
    assert server.asked == [], "nothing of it got through"
    assert server.told("/health", token="").marks[WEIGHTS_HEADER] == "1.4"


def test_two_attempts_of_which_none_says_its_number_drive_the_server_in_turn(server: Server) -> None:
    """Negative control: it is the number that keeps the older one out, and nothing else would."""
    assert server.push(0, "2.4") == [200, 200, 200]
    assert server.push(0, "1.5") == [200, 200, 200]
    assert server.told(ASK, 0).marks[WEIGHTS_HEADER] == "1.5"


def test_who_names_no_attempt_is_older_than_any(server: Server) -> None:
    assert server.told("/pause").status == 200
    server.told("/weight_info", 1)
    assert server.told("/pause").status == 409


def test_who_has_no_token_takes_no_server_over(server: Server) -> None:
    server.told("/weight_info", 9, token="wrong")
    server.told("/health", 9, token="")
    assert server.told("/pause", 1).status == 200


def test_an_answer_says_which_weights_it_is_of(server: Server) -> None:
    assert server.told(ASK, 1).marks[WEIGHTS_HEADER] == "", "those that it started with have no version"
    server.push(1, "1.4")
    assert server.told(ASK, 1).marks[WEIGHTS_HEADER] == "1.4"
    server.told(START, 1)
    assert server.told(ASK, 1).marks[WEIGHTS_HEADER] == "", "half-loaded"
    server.fails = True
    server.told(FINISH, 1, "1.5")
    assert server.told(ASK, 1).marks[WEIGHTS_HEADER] == "", "an update that failed ends in no version"


def test_an_answer_that_was_begun_before_a_takeover_says_so(server: Server) -> None:
    server.push(1, "1.4")
    server.meanwhile = (START, 2, "")
    marks = server.told(ASK, 1).marks
    assert (marks[ATTEMPT_HEADER], marks[WEIGHTS_HEADER]) == ("2", "")


def test_an_old_attempts_last_call_does_not_name_the_weights_of_the_new_one(server: Server) -> None:
    server.meanwhile = (START, 2, "")
    server.told(FINISH, 1, "1.5")
    assert server.told(ASK, 2).marks[WEIGHTS_HEADER] == ""
