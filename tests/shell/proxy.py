"""Stands between an operator and the API server, and does to its requests what a test asks for.

It speaks plain HTTP to the operator; tokens pass through.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from enum import Enum

import aiohttp
from aiohttp import web

from kube.api import Api, Manifest
from rljob_operator.cluster.client import REQUEST_SECONDS

WRITES = ("POST", "PUT", "PATCH", "DELETE")
HOP_BY_HOP = frozenset({"transfer-encoding", "connection", "content-length", "content-encoding", "host"})

Respond = Callable[[], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """A request of the operator."""

    method: str
    path: str
    is_watch: bool

    @property
    def is_write(self) -> bool:
        """Of something that belongs to a job: the lease does not."""
        return self.method in WRITES and "/leases" not in self.path

    @property
    def is_read(self) -> bool:
        """A list or a single object of a namespace: the lease does not count."""
        inside = "/namespaces/" in self.path and "/leases" not in self.path
        return self.method == "GET" and inside and not self.is_watch


class Fate(Enum):
    """What becomes of a request; a number is the code that it is refused with."""

    ANSWERED = "answered"
    SLOW = "slow"
    TWICE = "twice"
    """It reaches the API server two times; the answer is that to the second."""
    DROPPED = "dropped"
    """The connection breaks, and the request never reaches the API server."""
    LOST = "lost"
    """Done, but the connection breaks before the answer."""
    HELD = "held"
    """It is on its way until the test lets it go on."""
    CONFLICT = 409
    EXPIRED = 410
    TOO_MANY = 429
    FAILED = 500
    UNAVAILABLE = 503


REASONS = {
    Fate.CONFLICT: "Conflict",
    Fate.EXPIRED: "Expired",
    Fate.TOO_MANY: "TooManyRequests",
    Fate.UNAVAILABLE: "ServiceUnavailable",
}
SLOW_SECONDS = 0.5


@dataclass
class Proxy:
    api: Api
    asked: list[Asked] = field(default_factory=list)
    after: Callable[[Asked], None] = lambda _: None
    """Called when the API server has done what was asked for, and before the operator hears of it."""
    fate: Callable[[Asked], Fate] = lambda _: Fate.ANSWERED
    """What becomes of a request; of a watch, when it is opened."""
    repeats: Callable[[], bool] = lambda: False
    """Whether an event of a watch comes twice."""
    refuse_watch: Manifest | None = None
    """What a watch is told instead of events, once."""
    refuse_watch_of: str = "/pods"
    let_go: threading.Event = field(default_factory=threading.Event)
    """Set once what is held may go on."""
    url: str = ""
    _streams: set[asyncio.Task[None]] = field(default_factory=set)
    _is_over: bool = False

    @property
    def writes(self) -> list[Asked]:
        return [one for one in self.asked if one.is_write]

    def cut_watches(self) -> None:
        """All streams that are open break off, as when a connection is reset; nothing is told by them any more."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    async def _cut(self) -> None:
        streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    @contextmanager
    def serving(self) -> Iterator[Proxy]:
        started, stop = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started, stop)), daemon=True)
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            self.let_go.set()
            self._loop.call_soon_threadsafe(stop.set)
            thread.join()

    async def _serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        connector = aiohttp.TCPConnector(ssl=self.api.tls or False, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=True) as self._session:
            runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=REQUEST_SECONDS)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set()
            await stop.wait()
            self._is_over = True
            await self._cut()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") in ("1", "true")
        asked = Asked(request.method, request.path, watch)
        self.asked.append(asked)
        if watch and self.refuse_watch is not None and self.refuse_watch_of in request.path:
            told, self.refuse_watch = self.refuse_watch, None
            return web.Response(text=json.dumps({"type": "ERROR", "object": told}) + "\n")
        fate = Fate.FAILED if watch and self._is_over else self.fate(asked)
        if isinstance(fate.value, int):
            return _refusal(fate)
        if fate is Fate.DROPPED:
            _hang_up(request)
            return web.Response()
        if fate is Fate.SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        if fate is Fate.HELD:
            await asyncio.get_running_loop().run_in_executor(None, self.let_go.wait)
        if fate is Fate.TWICE:
            async with self._sent(request, await request.read()) as first:
                await first.read()
        async with self._sent(request, await request.read()) as answer:
            if fate is Fate.LOST:
                _hang_up(request)
            return await (self._stream(request, answer) if watch else self._whole(asked, answer))

    def _sent(self, request: web.Request, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP_BY_HOP}
        timeout = aiohttp.ClientTimeout(total=None)
        url = self.api.url + request.path_qs
        return self._session.request(request.method, url, headers=headers, data=body or None, timeout=timeout)

    async def _whole(self, asked: Asked, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        body = await answer.read()
        await asyncio.get_running_loop().run_in_executor(None, self.after, asked)
        headers = {key: value for key, value in answer.headers.items() if key.lower() not in HOP_BY_HOP}
        return web.Response(status=answer.status, body=body, headers=headers)

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        copying = asyncio.create_task(_copy(answer, response, self.repeats))
        self._streams.add(copying)
        try:
            await copying
        except (asyncio.CancelledError, ConnectionResetError):  # we cut it, or the operator is gone
            _hang_up(request)
        finally:
            self._streams.discard(copying)
            _abort(answer)
        return response


def _hang_up(request: web.Request) -> None:
    """The operator gets no answer."""
    if request.transport is not None:
        request.transport.abort()


def _abort(answer: aiohttp.ClientResponse) -> None:
    """Leave it before its end. A farewell by TLS would be waited for in the background, beyond the loop's end."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


def _refusal(fate: Fate) -> web.Response:
    reason = REASONS.get(fate, "InternalError")
    told = {
        "kind": "Status",
        "status": "Failure",
        "code": fate.value,
        "reason": reason,
        "message": "by chance",
    }
    headers = {"Retry-After": "1"} if fate is Fate.TOO_MANY else {}
    return web.json_response(told, status=fate.value, headers=headers)


async def _copy(
    answer: aiohttp.ClientResponse, response: web.StreamResponse, repeats: Callable[[], bool]
) -> None:
    rest = b""
    async for chunk in answer.content.iter_any():
        *events, rest = (rest + chunk).split(b"\n")
        for event in events:
            await response.write((event + b"\n") * (1 + repeats()))
    await response.write(rest)
