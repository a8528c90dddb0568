"""ASGI middleware inside vLLM's API server: every route but the probes wants the job's token.

vLLM's own `--api-key` leaves its control routes open (pause, weight updates, arbitrary RPC). This guard is an
allow-list, so a route that a later vLLM adds is closed until it is named here. It also marks every answer with the
server's instance, by which the trainer tells a replaced server from the one it synced.
"""

from __future__ import annotations

import hmac
import os
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

TOKEN_ENV = "RLJOB_CONTROL_TOKEN"
INSTANCE_HEADER = "x-rljob-instance"
OPEN_PATHS = frozenset({"/health", "/metrics"})

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
    """Answers 401 unless the path is open or the request carries the token from the environment."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._expected = bearer(control_token()).encode()
        self._instance = uuid.uuid4().hex.encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._admits(scope):
            await self._app(scope, receive, self._marked(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(send)

    def _admits(self, scope: Message) -> bool:
        if scope["type"] == "http" and scope["path"] in OPEN_PATHS:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, self._expected)

    def _marked(self, send: Send) -> Send:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                mark = (INSTANCE_HEADER.encode(), self._instance)
                message = {**message, "headers": [*message.get("headers", []), mark]}
            await send(message)

        return marked


async def _refuse(send: Send) -> None:
    body = b'{"error": "this route needs the job\'s token"}'
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
