"""The operator's client over the API server in memory, and what can go wrong between the two."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from kube.api import Answer, Manifest
from rljob_operator.cluster.client import JSON, ApiError, Client
from rljob_operator.cluster.resources import JOBS
from rljob_operator.handlers import Told
from rljob_operator.watch import Scope, Watch

from .memory_api import DRY_RUN, Change, MemoryApi


@dataclass
class Faults:
    """Chances, from 0 to 1, per request or per event of a watch."""

    refused: float = 0.0
    """409, 429 with Retry-After, 500 or 503 instead of an answer, or 410 for a next page; nothing is done."""
    missed: float = 0.0
    """It never arrives: nothing is done, and nobody answers."""
    lost: float = 0.0
    """Done, but the answer never arrives."""
    twice: float = 0.0
    """A write is done two times; the answer is that to the second."""
    slow: float = 0.0
    """Up to two seconds before it is done, and as long before it is heard of."""
    cut: float = 0.0
    """The stream breaks off; sometimes its place in history is gone as well."""
    repeated: float = 0.0
    """An event comes twice."""
    dice: random.Random = field(default_factory=lambda: random.Random(0))

    def end(self) -> None:
        """All goes well from now on."""
        for chance in CHANCES:
            setattr(self, chance, 0.0)

    def happens(self, chance: float) -> bool:
        return self.dice.random() < chance

    async def dawdle(self) -> None:
        if self.happens(self.slow):
            await asyncio.sleep(self.dice.uniform(0, 2))


CHANCES = [known.name for known in fields(Faults) if known.type == "float"]


class MemoryClient(Client):
    """Once `dead`, nothing that it is asked for happens."""

    def __init__(self, api: MemoryApi, faults: Faults) -> None:
        self.dead = False
        self.after_write: Callable[[str, str], None] = lambda method, path: None
        """Called when a write was done, and before it is heard of."""
        self._api = api
        self._faults = faults
        self._rests: dict[str, Manifest] = {}
        """Of lists that were read in part, by the token for going on."""

    async def send(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Manifest:
        asked = params or {}
        await self._faults.dawdle()
        self._refuse_by_chance(method, asked)
        self._lose_by_chance(self._faults.missed, "request")
        self._check()
        answer = self._done(method, path, body, asked, content_type)
        if method != "GET" and self._faults.happens(self._faults.twice):
            answer = self._done(method, path, body, asked, content_type)
        if method != "GET" and answer.code < 400:
            self.after_write(method, path)
        self._check()
        await self._faults.dawdle()
        self._lose_by_chance(self._faults.lost, "answer")
        if answer.code >= 400:
            raise ApiError(answer.code, answer.body["reason"], answer.message)
        return answer.body

    def _done(
        self, method: str, path: str, body: Manifest | None, asked: Mapping[str, str], content_type: str
    ) -> Answer:
        if token := asked.get("continue"):
            return Answer(200, self._page(self._rests.pop(token), int(asked["limit"])))
        query = f"?{DRY_RUN}" if asked.get("dryRun") else ""
        answer = self._api.send(method, path + query, body, content_type)
        if selector := asked.get("fieldSelector"):
            answer = Answer(answer.code, _selected(answer.body, selector))
        if limit := asked.get("limit"):
            answer = Answer(answer.code, self._page(answer.body, int(limit)))
        return answer

    def _page(self, listed: Manifest, limit: int) -> Manifest:
        """The first of these objects; the others are kept as they are now."""
        items, metadata = listed["items"], listed["metadata"]
        if len(items) > limit:
            metadata = metadata | {"continue": secrets.token_hex(8)}
            self._rests[metadata["continue"]] = {**listed, "items": items[limit:]}
        return {**listed, "items": items[:limit], "metadata": metadata}

    async def lines(self, path: str, params: Mapping[str, str], accept: str = JSON) -> AsyncIterator[bytes]:
        async for kind, manifest in self._events(path, params):
            await self._faults.dawdle()
            self._cut_by_chance()
            for _ in range(1 + self._faults.happens(self._faults.repeated)):
                yield json.dumps({"type": kind, "object": manifest}).encode()

    async def _events(self, path: str, params: Mapping[str, str]) -> AsyncIterator[tuple[str, Manifest]]:
        """As they come; at the end of its time the stream says how far it got, and ends.

        Raises `ApiError` when the changes are not known any more, or the operator is dead.
        """
        plural, revision = path.rsplit("/", 1)[-1], int(params["resourceVersion"])
        ends = asyncio.get_running_loop().time() + float(params["timeoutSeconds"])
        news = asyncio.Event()
        with self._api.heard(lambda change: news.set() if change.plural == plural else None):
            while True:
                self._check()
                changes = self._api.since(plural, revision)
                if changes is None:
                    raise ApiError(410, "Expired", "too old resource version")
                for change in changes:
                    yield change.type, change.object
                    revision = change.revision
                if not await _within(news, ends):
                    yield "BOOKMARK", {"metadata": {"resourceVersion": str(self._api.revision)}}
                    return

    def _check(self) -> None:
        if self.dead:
            raise ApiError(0, "Crashed", "this operator is no more")

    def _refuse_by_chance(self, method: str, asked: Mapping[str, str]) -> None:
        if not self._faults.happens(self._faults.refused):
            return
        own = [410] if "continue" in asked else [409] if method != "GET" else []
        code = self._faults.dice.choice([*own, 429, 500, 503])
        reason = {409: "Conflict", 410: "Expired", 429: "TooManyRequests"}.get(code, "InternalError")
        raise ApiError(code, reason, "by chance", 1.0 if code == 429 else None)

    def _lose_by_chance(self, chance: float, what: str) -> None:
        if self._faults.happens(chance):
            raise ApiError(0, "TimeoutError", f"the {what} was lost")

    def _cut_by_chance(self) -> None:
        if not self._faults.happens(self._faults.cut):
            return
        if self._faults.happens(0.3):
            self._api.compacted = self._api.revision
        if self._faults.happens(0.3):
            raise ApiError(500, "InternalError", "an error in the stream")
        raise ApiError(0, "ClientPayloadError", "the stream broke off")


def _selected(listed: Manifest, selector: str) -> Manifest:
    """Of a list, the objects that have the value at the path: `path=value`."""
    path, _, wanted = selector.partition("=")

    def value(one: Any) -> Any:
        return functools.reduce(lambda inner, name: inner.get(name, {}), path.split("."), one)

    return {**listed, "items": [one for one in listed["items"] if value(one) == wanted]}


async def _within(news: asyncio.Event, ends: float) -> bool:
    """Whether there were any by then, a time of the loop's."""
    try:
        async with asyncio.timeout_at(ends):
            await news.wait()
    except TimeoutError:
        return False
    news.clear()
    return True


class ListedJobs:
    """Tells of jobs as kopf does: a list shows what is there, and never what is gone."""

    def __init__(self, client: Client, namespace: str = "") -> None:
        """Of all namespaces, or of one."""
        self._client = client
        self._namespace = namespace
        self._newest: Manifest | None = None

    async def run(self, told: Told) -> NoReturn:
        self._told = told
        await Watch(self._client, Scope(JOBS, self._namespace, "", False), self).run()

    def sweep(self, scope: str, present: set[str], version: int) -> None:
        if self._newest is not None and self._newest["metadata"]["uid"] in present:
            self._told(None, self._newest)

    def changed(self, manifest: Manifest) -> None:
        self._newest = manifest
        self._told("MODIFIED", manifest)

    def deleted(self, manifest: Manifest) -> None:
        self._told("DELETED", manifest)

    def reached(self, scope: str, version: int) -> None:
        """Nothing is kept here."""


__all__ = ["Change", "Faults", "ListedJobs", "MemoryClient"]
