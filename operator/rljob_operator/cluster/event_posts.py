"""Posts happenings as Kubernetes Events, behind the passes: an Event that cannot be posted holds nothing up.

One that the API server has no time for comes again, behind those that were put meanwhile. Those that are left when the
operator is told to stop are posted before it goes; those of one that dies are never told, for a successor sees no
status that changed.
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

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])


class EventPosts:
    def __init__(self, client: Client, instance: str) -> None:
        self._client = client
        self._instance = instance
        self._waiting: asyncio.Queue[_Post] = asyncio.Queue(KEPT_BACK)
        self._left: dict[str, _Post] = {}
        """All that are neither posted nor given up, by name: those that wait, for their turn or for another try, and
        the one under way."""

    def put(self, key: Key, stored: Stored, happenings: Iterable[Happening]) -> None:
        """`stored` is the job as it was before they happened."""
        for happening in happenings:
            self._line_up(_Post(event(key, stored, happening, self._instance, time.time())))

    async def run(self) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            post = await self._waiting.get()
            pause = await self._post(post)
            if pause is not None:
                loop.call_later(pause, self._line_up, self._left[post.name])

    async def drain(self, seconds: float) -> None:
        """Post what is left once `run` has ended, within so much time: nobody else ever will."""
        try:
            async with asyncio.timeout(seconds):
                while self._left:
                    pauses = [await self._post(post) for post in tuple(self._left.values())]
                    await asyncio.sleep(min((pause for pause in pauses if pause is not None), default=0.0))
        except TimeoutError:
            for post in self._left.values():
                _give_up(post, "this operator ends")

    async def _post(self, post: _Post) -> float | None:
        """In how many seconds to try again, if that can help."""
        path = EVENTS.path(post.manifest["metadata"]["namespace"])
        try:
            await self._client.send("POST", path, post.manifest)
        except ApiError as error:
            tries = post.tries + 1
            if error.reason != "AlreadyExists" and tries < TRIES and is_temporary(error):
                self._left[post.name] = replace(post, tries=tries)
                return max(FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1), error.retry_after or 0.0)
            if error.reason != "AlreadyExists":  # else it was told before
                log.warning("an event was not posted: %s", error)
        self._left.pop(post.name, None)
        return None

    def _line_up(self, post: _Post) -> None:
        """Each that is thrown away was a write before, so the log does not overflow with them."""
        if self._waiting.full():
            self._left.pop(post.name, None)
            _give_up(post, f"{KEPT_BACK} wait")
        else:
            self._left[post.name] = post
            self._waiting.put_nowait(post)


def _give_up(post: _Post, why: str) -> None:
    told = post.manifest
    log.warning(
        "an event was not posted, because %s: %s of %s/%s: %s",
        why,
        told["reason"],
        told["metadata"]["namespace"],
        told["involvedObject"]["name"],
        told["message"],
    )


def cut(text: str, limit: int) -> str:
    """At most so many bytes of UTF-8, and no part of a character."""
    return text.encode()[:limit].decode(errors="ignore")


def event(key: Key, stored: Stored, happening: Happening, instance: str, now: float) -> Manifest:
    """Its name follows from what it says: told once, even by two operators.

    kubectl sorts by `lastTimestamp`, which has whole seconds; `eventTime` has the parts of one.
    """
    namespace, job = key
    said = "/".join((stored.uid, str(stored.attempt), happening.reason, happening.note, happening.time))
    second = times.to_text(now)
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{job}.{digest}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": job,
            "namespace": namespace,
            "uid": stored.uid,
        },
        "type": happening.type,
        "reason": happening.reason,
        "action": happening.action,
        "message": cut(happening.note, NOTE_LIMIT),
        "eventTime": times.to_micro_text(now),
        "firstTimestamp": second,
        "lastTimestamp": second,
        "count": 1,
        "source": {"component": CONTROLLER},
        "reportingComponent": CONTROLLER,
        "reportingInstance": cut(instance, INSTANCE_LIMIT),
    }
