"""ASGI middleware inside vLLM's API server: every route but the probes wants the job's token, and the newest attempt.

vLLM's own `--api-key` leaves its control routes open (pause, weight updates, arbitrary RPC). This guard is an
allow-list, so a route that a later vLLM adds is closed until it is named here.

Servers outlive attempts. Who asks says which attempt it is, and once a newer one has asked, an older one is refused: a
trainer that was cut off and comes back drives nobody. Every answer is marked with the server's instance, by which a
replaced server is told from the one that was synced, with the newest attempt, and with the weights that gave it.
"""

from __future__ import annotations

import hmac
import json
import os
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

TOKEN_ENV = "RLJOB_CONTROL_TOKEN"
INSTANCE_HEADER = "x-rljob-instance"
ATTEMPT_HEADER = "x-rljob-attempt"
"""Of a request: the attempt that asks. Of an answer: the newest one that has asked this server."""
WEIGHTS_HEADER = "x-rljob-weights"
"""Of `FINISHED`: the version that the update ends in. Of an answer: the one it comes of; empty while none is whole."""
OPEN_PATHS = frozenset({"/health", "/metrics"})
FINISHED = "/finish_weight_update"
UPDATES = frozenset({"/start_weight_update", "/update_weights", FINISHED})
"""From the first of these on, until the last is done, weights are of no version."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def control_token() -> str:
    """The job's token, from the environment.

    Raises `RuntimeError` where there is none.
    """
    token = os.environ.get(TOKEN_ENV, "")
    if not token:
        raise RuntimeError(f"{TOKEN_ENV} is not set: the control routes would be open")
    return token


def bearer(token: str) -> str:
    """The value of the `Authorization` header that the guard accepts."""
    return f"Bearer {token}"


class ControlGuard:
    """Answers 401 unless the path is open or the request carries the token from the environment, and 409 to an attempt
    that is older than another one that asked; a request that names none counts as the oldest.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._expected = bearer(control_token()).encode()
        self._instance = uuid.uuid4().hex
        self._newest = 0
        self._weights = ""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, self._marked(send))
        elif not hmac.compare_digest(_header(scope, "authorization").encode("latin-1"), self._expected):
            await _close(scope, send, 401, "this route needs the job's token")
        elif (attempt := _attempt(scope)) < self._newest:
            told = f"attempt {attempt} may not use this server any more: attempt {self._newest} has taken it over"
            await _close(scope, self._marked(send), 409, told)
        else:
            self._newest = attempt
            await self._app(scope, receive, self._marked(self._noting(scope, send)))

    def _noting(self, scope: Message, send: Send) -> Send:
        """`send`, with an eye on what an update of weights leaves behind."""
        if scope["type"] == "http" and scope["path"] in UPDATES:
            self._weights = ""

        async def noting(message: Message) -> None:
            done = message["type"] == "http.response.start" and message["status"] == 200
            if done and scope["path"] == FINISHED and _attempt(scope) == self._newest:
                self._weights = _header(scope, WEIGHTS_HEADER)
            await send(message)

        return noting

    def _marked(self, send: Send) -> Send:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._marks()]}
            await send(message)

        return marked

    def _marks(self) -> list[tuple[bytes, bytes]]:
        """As things are when the answer is ready, so that one of weights that went meanwhile is told."""
        marks = {
            INSTANCE_HEADER: self._instance,
            ATTEMPT_HEADER: str(self._newest),
            WEIGHTS_HEADER: self._weights,
        }
        return [(name.encode(), value.encode()) for name, value in marks.items()]


def _header(scope: Message, name: str) -> str:
    """Its value, or nothing."""
    value: bytes = dict(scope["headers"]).get(name.encode(), b"")
    return value.decode("latin-1")


def _attempt(scope: Message) -> int:
    told = _header(scope, ATTEMPT_HEADER)
    return int(told) if told.isdecimal() else 0


async def _close(scope: Message, send: Send, status: int, error: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    challenge = [(b"www-authenticate", b"Bearer")] if status == 401 else []
    headers = [(b"content-type", b"application/json"), *challenge]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": error}).encode()})
