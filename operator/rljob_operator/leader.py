"""Who of several operators works: the one that holds the Lease.

It avoids double work, it does not fence: what keeps a leader that slept from doing harm are the versions, UIDs and
create-only writes of `cluster/writer.py`. Clocks of other machines are never compared with ours: a lease is stale when
it has not changed for its whole duration by our own clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from http import HTTPStatus

from rljob_api.base import Manifest

from . import times
from .cluster.client import ApiError, Client
from .cluster.resources import LEASES
from .metrics import LEADING

log = logging.getLogger(__name__)


class NotLeadingError(Exception):
    """This process may not write: its lease may have gone to another."""


@dataclass(frozen=True)
class Terms:
    """Of the lease. Times are in seconds."""

    namespace: str
    name: str
    holder: str
    duration: float
    period: float
    """Time between two renewals."""


class Leader:
    def __init__(self, client: Client, terms: Terms) -> None:
        self._client = client
        self._terms = terms
        self._sure_until = 0.0
        """By the monotonic clock, which goes on while a process is stopped."""
        self._seen: tuple[str, float] = ("", 0.0)
        """Version of another's lease, and since when it has not changed."""

    @property
    def identity(self) -> str:
        return self._terms.holder

    def guard(self) -> None:
        """Raises `NotLeadingError` unless the lease is surely still ours."""
        if time.monotonic() >= self._sure_until:
            raise NotLeadingError

    async def acquire(self) -> None:
        """Returns once the lease is ours."""
        while not await self._try():
            await asyncio.sleep(self._terms.period / 2)
        log.info("leading as %s", self._terms.holder)
        LEADING.set(1)

    async def hold(self) -> None:
        """Renews the lease; returns once it is lost."""
        while True:
            await asyncio.sleep(self._terms.period)
            renewed = await self._try_for_half() or await self._try()
            if not renewed and time.monotonic() >= self._sure_until:
                log.warning("the lease is lost: another operator leads, or the API server does not answer")
                LEADING.set(0)
                return

    async def release(self) -> None:
        """Let the next one in at once."""
        self._sure_until = 0.0
        LEADING.set(0)
        try:
            while not await self._is_given_back():
                continue  # a renewal that was under way came in between
        except ApiError as error:
            log.info("the lease was not released, it will run out: %s", error)

    async def _is_given_back(self) -> bool:
        """Also if it is another's. False if it changed before our answer to it."""
        lease = await self._get()
        if lease is None or lease["spec"].get("holderIdentity") != self._terms.holder:
            return True
        lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._client.send("PUT", self._path(), lease)
        except ApiError as error:
            if error.code != HTTPStatus.CONFLICT:
                raise
            return False
        return True

    async def _try_for_half(self) -> bool:
        """Not for longer than half of the time that the lease is sure: if no answer comes, the other half is left."""
        left = max(0.0, self._sure_until - time.monotonic())
        try:
            async with asyncio.timeout(left / 2):
                return await self._try()
        except TimeoutError:
            log.warning("no answer about the lease within %.1f s: it is asked again", left / 2)
            return False

    async def _try(self) -> bool:
        """Take or renew the lease; whether it is ours now."""
        began = time.monotonic()
        try:
            lease = await self._get()
            if lease is None:
                await self._client.send("POST", LEASES.path(self._terms.namespace), self._lease({}))
            elif self._is_free(lease, began):
                await self._client.send("PUT", self._path(), self._lease(lease))
            else:
                self._sure_until = 0.0
                return False
        except ApiError as error:
            level = logging.INFO if error.code == HTTPStatus.CONFLICT else logging.WARNING
            log.log(level, "the lease was not taken: %s", error)
            return False
        self._sure_until = began + self._terms.duration * 2 / 3
        return True

    async def _get(self) -> Manifest | None:
        try:
            return await self._client.send("GET", self._path())
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return None

    def _is_free(self, lease: Manifest, now: float) -> bool:
        holder, version = lease["spec"].get("holderIdentity"), lease["metadata"]["resourceVersion"]
        if not holder or holder == self._terms.holder:
            return True
        if version != self._seen[0]:
            self._seen = (version, now)
        return now - self._seen[1] > float(lease["spec"].get("leaseDurationSeconds") or 0)

    def _lease(self, before: Manifest) -> Manifest:
        """Its version, if it has one, lets only one of several win."""
        old = before.get("spec", {})
        taken = old.get("holderIdentity") != self._terms.holder
        now = times.to_micro_text(time.time())
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": before.get("metadata")
            or {"name": self._terms.name, "namespace": self._terms.namespace},
            "spec": {
                "holderIdentity": self._terms.holder,
                "leaseDurationSeconds": max(1, round(self._terms.duration)),
                "acquireTime": now if taken else old.get("acquireTime", now),
                "renewTime": now,
                "leaseTransitions": int(old.get("leaseTransitions") or 0) + bool(taken and before),
            },
        }

    def _path(self) -> str:
        return LEASES.path(self._terms.namespace, self._terms.name)
