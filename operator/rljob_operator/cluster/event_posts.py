"""Posts happenings as Kubernetes Events, behind the passes: an Event that cannot be posted holds nothing up.

One that the API server has no time for comes again, behind those that were put meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NoReturn

from rljob_api.base import API_VERSION, KIND, Manifest

from .. import times
from ..happenings import Happening
from ..jobs import Stored
from ..queue import Key
from .client import ApiError, Client
from .resources import EVENTS
from .writer import is_temporary

CONTROLLER = "rljob.io/operator"
KEPT_BACK = 1000
"""Events that wait to be posted; more are thrown away."""
TRIES = 8
"""After which an Event is given up."""
FIRST_PAUSE_SECONDS = 0.5
"""Before the second try; doubles with each, so that all take a minute."""
NOTE_LIMIT = 1024
"""Bytes, as the API server counts."""
INSTANCE_LIMIT = 128
"""The same of `reportingInstance`."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Post:
    manifest: Manifest
    tries: int = 0
    """That failed."""


class EventPosts:
    def __init__(self, client: Client, instance: str) -> None:
        self._client = client
        self._instance = instance
        self._waiting: asyncio.Queue[_Post] = asyncio.Queue(KEPT_BACK)

    def put(self, key: Key, stored: Stored, happenings: Iterable[Happening]) -> None:
        """`stored` is the job as it was before they happened."""
        for happening in happenings:
            self._line_up(_Post(event(key, stored, happening, self._instance, time.time())))

    async def run(self) -> NoReturn:
        while True:
            post = await self._waiting.get()
            path = EVENTS.path(post.manifest["metadata"]["namespace"])
            try:
                await self._client.send("POST", path, post.manifest)
            except ApiError as error:
                self._failed(replace(post, tries=post.tries + 1), error)

    def _line_up(self, post: _Post) -> None:
        """Each that is thrown away was a write before, so the log does not overflow with them."""
        if not self._waiting.full():
            self._waiting.put_nowait(post)
            return
        told = post.manifest
        log.warning(
            "an event was not posted, because %d wait: %s of %s/%s: %s",
            KEPT_BACK,
            told["reason"],
            told["metadata"]["namespace"],
            told["regarding"]["name"],
            told["note"],
        )

    def _failed(self, post: _Post, error: ApiError) -> None:
        """Later, if that can help."""
        if error.reason == "AlreadyExists":  # it was told before
            return
        if post.tries == TRIES or not is_temporary(error):
            log.warning("an event was not posted: %s", error)
            return
        pause = max(FIRST_PAUSE_SECONDS * 2.0 ** (post.tries - 1), error.retry_after or 0.0)
        asyncio.get_running_loop().call_later(pause, self._line_up, post)


def cut(text: str, limit: int) -> str:
    """At most so many bytes of UTF-8, and no part of a character."""
    return text.encode()[:limit].decode(errors="ignore")


def event(key: Key, stored: Stored, happening: Happening, instance: str, now: float) -> Manifest:
    """Its name follows from what it says: told once, even by two operators."""
    namespace, job = key
    said = "/".join((stored.uid, str(stored.attempt), happening.reason, happening.note, happening.time))
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{job}.{digest}", "namespace": namespace},
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": job,
            "namespace": namespace,
            "uid": stored.uid,
        },
        "type": happening.type,
        "reason": happening.reason,
        "action": happening.action,
        "note": cut(happening.note, NOTE_LIMIT),
        "eventTime": times.to_micro_text(now),
        "reportingController": CONTROLLER,
        "reportingInstance": cut(instance, INSTANCE_LIMIT),
    }
