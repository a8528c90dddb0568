"""LIST and WATCH of one kind: a sink hears of every change, also of deletions that happened while nobody watched.

kopf's own watch loses those on a relist and ends the process on an error in the stream: see `docs/decisions`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import NoReturn, Protocol

from rljob_api.base import Manifest

from .cluster.client import JSON, METADATA, METADATA_LIST, ApiError, Client
from .cluster.listing import pages
from .cluster.resources import Resource
from .metrics import WATCH_RESTARTS

STREAM_SECONDS = 300
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 15.0

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Who keeps what a watch finds."""

    def changed(self, manifest: Manifest) -> None:
        """There, in this version."""

    def sweep(self, scope: str, present: set[str], version: int) -> None:
        """A list of that version had these UIDs, each told by `changed`: what is not among them is gone."""

    def deleted(self, manifest: Manifest) -> None:
        """Gone; the manifest is its last state."""

    def reached(self, scope: str, version: int) -> None:
        """Everything up to that version was told."""


@dataclass(frozen=True)
class Scope:
    """What a watch looks at."""

    resource: Resource
    namespace: str
    """Empty for all."""
    selector: str
    metadata_only: bool


class Watch:
    """Runs until cancelled. `synced` is set once the first list was handed over."""

    def __init__(self, client: Client, scope: Scope, sink: Sink) -> None:
        self.synced = asyncio.Event()
        self._client = client
        self._scope = scope
        self._sink = sink
        self._pause = FIRST_PAUSE_SECONDS

    async def run(self) -> NoReturn:
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._follow(version)
            except ApiError as error:
                await self._rest(error)

    async def _list(self) -> str:
        """The version from which to follow."""
        present: set[str] = set()
        accept = METADATA_LIST if self._scope.metadata_only else JSON
        params = {"labelSelector": self._scope.selector}
        async with aclosing(pages(self._client, self._path(), accept, params)) as listed:
            async for page in listed:
                for item in page["items"] or []:  # null for an empty list of metadata
                    self._sink.changed(item)
                    present.add(item["metadata"]["uid"])
                version = str(page["metadata"]["resourceVersion"])
        self._sink.sweep(self._scope.namespace, present, int(version))
        self._pause = FIRST_PAUSE_SECONDS
        self.synced.set()
        return version

    async def _follow(self, version: str) -> str:
        """One stream to its end; the version from which to follow on.

        Raises `ApiError` with code 410 when that version is too old to follow.
        """
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(random.randint(STREAM_SECONDS // 2, STREAM_SECONDS)),
            "labelSelector": self._scope.selector,
        }
        accept = METADATA if self._scope.metadata_only else JSON
        try:
            async for line in self._client.lines(self._path(), params, accept):
                version = self._hear(json.loads(line))
        except ApiError as error:
            if error.code == HTTPStatus.GONE:
                raise
            await self._rest(error)
        return version

    def _hear(self, event: Manifest) -> str:
        """Raises `ApiError` if the event is an error."""
        kind, told = event["type"], event["object"]
        if kind == "ERROR":
            raise ApiError(told.get("code", 0), told.get("reason", ""), told.get("message", ""))
        version = str(told["metadata"]["resourceVersion"])
        if kind == "DELETED":
            self._sink.deleted(told)
        elif kind != "BOOKMARK":
            self._sink.changed(told)
        self._sink.reached(self._scope.namespace, int(version))
        self._pause = FIRST_PAUSE_SECONDS
        return version

    async def _rest(self, error: ApiError) -> None:
        """Longer with each failure in a row, and never shorter than the API server asks."""
        WATCH_RESTARTS.labels(self._scope.resource.plural, error.reason or str(error.code)).inc()
        log.info("watch of %s begins anew: %s", self._scope.resource.plural, error)
        pause = random.uniform(0.5, 1.0) * self._pause
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
        await asyncio.sleep(max(pause, error.retry_after or 0.0))

    def _path(self) -> str:
        return self._scope.resource.path(self._scope.namespace)
