"""LIST of one kind, page by page: what is parsed is many times the size of what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from rljob_api.base import Manifest

from .client import Client

PAGE = 100
"""Objects at a time: a page of whole pods is parsed to some ten megabytes, which a list of all must not add up to."""


async def pages(
    client: Client, path: str, accept: str, params: Mapping[str, str] | None = None
) -> AsyncGenerator[Manifest, None]:
    """All of one moment, which is each page's `resourceVersion`. To be closed, for the API server makes the next one
    while the one before is read; no more than two are held.

    Raises `ApiError`, with code 410 when the API server has forgotten that moment meanwhile.
    """

    def ask(token: str) -> asyncio.Task[Manifest]:
        continued = {"continue": token} if token else {}
        asked = {"limit": str(PAGE), **(params or {}), **continued}
        return asyncio.create_task(client.send("GET", path, params=asked, accept=accept))

    coming, more = ask(""), True
    try:
        while more:
            page = await coming
            token = page["metadata"].get("continue") or ""
            more = bool(token)
            if more:
                coming = ask(token)
                await asyncio.sleep(0)  # else it would not be asked for before this one is read
            yield page
    finally:
        coming.cancel()
