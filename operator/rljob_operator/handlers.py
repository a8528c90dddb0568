"""kopf, the shell: it logs in and watches jobs. Every kopf decorator stands here; nothing is decided here.

It runs in a thread with an event loop of its own, because it ends every task of the loop that it stops in. What it
hears goes over to ours.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory
from kubernetes.aio.client import Configuration

from rljob_api.base import GROUP, VERSION, Manifest
from rljob_api.crd import PLURAL

from .metrics import WATCH_RESTARTS

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
SOUND_SECONDS = 60.0
"""One that lived for so long did not die of how it was started."""
IDLE_SECONDS = 0.05
"""For so long kopf keeps the last state of each job that it told us of: of a list, all of them at once."""
EARLY_DEATHS = 3
"""In a row, after which it is said to be unwell."""

log = logging.getLogger(__name__)

Told = Callable[[str | None, Manifest], None]
"""Called in our loop with the event's type, None for what a list showed, and the job."""


class Shell:
    """kopf in a thread. Started again when it dies: an error in the stream of events kills it."""

    def __init__(self, configuration: Configuration, namespaces: Sequence[str]) -> None:
        self._namespaces = namespaces
        self._registry = registry(configuration, self._tell)
        self._told: Told
        self._loop: asyncio.AbstractEventLoop
        self._began = 0.0
        self._early_deaths = 0

    @property
    def well(self) -> bool:
        """False when it dies again and again, so that jobs are not heard of."""
        return self._early_deaths < EARLY_DEATHS or self._lived()

    async def run(self, told: Told) -> NoReturn:
        """Until cancelled."""
        self._told = told
        self._loop = asyncio.get_running_loop()
        while True:
            self._began = time.monotonic()
            await self._once()
            WATCH_RESTARTS.labels(PLURAL, "kopf ended").inc()
            self._early_deaths = 0 if self._lived() else self._early_deaths + 1
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**self._early_deaths)
            log.warning("the watch of jobs died and is started again in %.1f s", pause)
            await asyncio.sleep(pause)

    def _lived(self) -> bool:
        return time.monotonic() - self._began >= SOUND_SECONDS

    async def _once(self) -> None:
        stop, ended = threading.Event(), asyncio.Event()

        def run() -> None:
            try:
                asyncio.run(self._operator(stop))
            except Exception:
                log.warning("kopf ended", exc_info=True)
            finally:
                self._loop.call_soon_threadsafe(ended.set)

        thread = threading.Thread(target=run, name="kopf", daemon=True)
        thread.start()
        try:
            await ended.wait()
        finally:
            stop.set()
            if not ended.is_set():
                await asyncio.shield(ended.wait())

    async def _operator(self, stop: threading.Event) -> None:
        try:
            await kopf.operator(
                registry=self._registry,
                settings=settings(),
                memories=Forgetful(),
                standalone=True,
                namespaces=list(self._namespaces),
                clusterwide=not self._namespaces,
                stop_flag=stop,
            )
        finally:
            stop.set()  # a thread of kopf's waits for it, and the loop does not end before its threads

    def _tell(self, kind: str | None, job: Manifest) -> None:
        self._loop.call_soon_threadsafe(self._told, kind, job)


class Forgetful(ResourceMemories):
    """Of each object kopf would keep 20 KB for handlers that we do not have."""

    async def recall(self, raw_body: kopf.RawBody, **more: Any) -> ResourceMemory:
        return await super().recall(raw_body, **more | {"ephemeral": True})


def registry(
    configuration: Configuration, tell: Callable[[str | None, Manifest], None]
) -> kopf.OperatorRegistry:
    """`on.event` only: anything more would write annotations or finalizers to the user's object."""
    found = kopf.OperatorRegistry()

    @kopf.on.login(registry=found)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection(configuration)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=found)
    async def job(event: kopf.RawEvent, **_: Any) -> None:
        tell(event["type"], dict(event["object"]))

    return found


def settings() -> kopf.OperatorSettings:
    found = kopf.OperatorSettings()
    found.scanning.disabled = True  # else it needs rights on namespaces and CRDs
    found.posting.enabled = False
    found.networking.request_timeout = 20
    found.networking.enforce_retry_after = True
    found.watching.server_timeout = 300
    found.watching.inactivity_timeout = 90
    found.watching.chunk_size = 50
    found.process.ultimate_exiting_timeout = 20
    found.queueing.idle_timeout = IDLE_SECONDS
    return found


async def connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """The same endpoint and identity as our own client's."""
    token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    scheme, _, secret = (token or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        ca_data=configuration.ca_cert_data,
        insecure=not configuration.verify_ssl,
        scheme=scheme.capitalize() or None,
        token=secret or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )
