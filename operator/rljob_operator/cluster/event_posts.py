"""Posts happenings as Kubernetes Events, behind the passes: an Event that cannot be posted holds nothing up."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterable
from typing import NoReturn

from rljob_api.base import API_VERSION, KIND, Manifest

from .. import times
from ..happenings import Happening
from ..jobs import Stored
from ..queue import Key
from .client import ApiError, Client
from .resources import EVENTS

CONTROLLER = "rljob.io/operator"
KEPT_BACK = 1000
"""Events that wait to be posted; more are thrown away."""
NOTE_LIMIT = 1024

log = logging.getLogger(__name__)


class EventPosts:
    def __init__(self, client: Client, instance: str) -> None:
        self._client = client
        self._instance = instance
        self._waiting: asyncio.Queue[Manifest] = asyncio.Queue(KEPT_BACK)

    def put(self, key: Key, stored: Stored, happenings: Iterable[Happening]) -> None:
        """`stored` is the job as it was before they happened."""
        for happening in happenings:
            if not self._waiting.full():
                self._waiting.put_nowait(event(key, stored, happening, self._instance, time.time()))

    async def run(self) -> NoReturn:
        while True:
            manifest = await self._waiting.get()
            try:
                await self._client.send("POST", EVENTS.path(manifest["metadata"]["namespace"]), manifest)
            except ApiError as error:
                if error.reason != "AlreadyExists":  # else it was told before
                    log.info("an event was not posted: %s", error)


def event(key: Key, stored: Stored, happening: Happening, instance: str, now: float) -> Manifest:
    """Its name follows from what it says: told once, even by two operators."""
    namespace, job = key
    said = f"{stored.uid}/{stored.attempt}/{happening.reason}/{happening.note}"
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
        "note": happening.note[:NOTE_LIMIT],
        "eventTime": times.to_micro_text(now),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
    }
