"""`/metrics`, `/healthz` and `/readyz` of the operator itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


@asynccontextmanager
async def serving(host: str, port: int, well: Callable[[], bool]) -> AsyncIterator[None]:
    """Answers from our own loop: no answer means that it stands still. A stand-by is ready too.

    `well`: whether jobs are heard of; if not, the process lives but is not ready.
    """

    async def ready(_: web.Request) -> web.Response:
        if well():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the watch of jobs dies again and again: see the log\n")

    app = web.Application()
    app.add_routes([web.get("/healthz", _ok), web.get("/readyz", ready), web.get("/metrics", _metrics)])
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


async def _ok(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
