"""The operator's loop for all jobs of a cluster: workers over a queue, while this process holds the lease.

All that is known is gathered anew in each term of leadership, after the lease was taken. So nobody ever acts on what
was true before the leader before it wrote last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing
from typing import NoReturn, Protocol

from pydantic import ValidationError

from rljob_api.base import Manifest
from rljob_api.job import OURS, RLJob
from rljob_api.status import Status

from . import names
from .cluster.children import Children
from .cluster.client import METADATA_LIST, ApiError, Client
from .cluster.event_posts import EventPosts
from .cluster.event_reading import EventReading
from .cluster.kubernetes import KubernetesCluster
from .cluster.listing import pages
from .cluster.polling import Answers, News, Polling
from .cluster.polling import Leader as Rank0
from .cluster.resources import JOBS, METADATA_KINDS, PODS
from .cluster.throttle import ProgressThrottle
from .cluster.writer import Writer
from .handlers import Told
from .happenings import happenings
from .jobs import Jobs, Stored
from .leader import Leader, NotLeadingError
from .logs import about
from .metrics import QUEUE_DEPTH, RECONCILE_ERRORS, RECONCILE_SECONDS
from .queue import Key, Queue
from .reconcile import Pass, reconcile
from .refusal import given_up, newly_refused, refused
from .settings import Settings
from .watch import Scope, Sink, Watch
from .within import within

POLL_SECONDS = 5.0
LAST_SECONDS = 3.0
"""At the end of a term, for the statuses that are being written; and as long for the Events that are left."""
SWEEP_AFTER_SECONDS = 2.0
"""Time from the last job of a list to the look for those that are gone."""
SWEEP_EVERY_SECONDS = 300.0
"""Longest time between two such looks."""

log = logging.getLogger(__name__)


class JobSource(Protocol):
    """Who tells of jobs."""

    async def run(self, told: Told) -> NoReturn:
        """Until cancelled."""


class Term:
    """One term of leadership."""

    def __init__(self, client: Client, leader: Leader, settings: Settings, source: JobSource) -> None:
        self._source = source
        self._events = EventPosts(client, leader.identity)
        self.jobs = Jobs(self._changed)
        self._client = client
        self._leader = leader
        self._settings = settings
        self.queue = Queue()
        self._children = Children(self._changed)
        self._told = Answers()
        self._event_reading = EventReading(client, self._changed)
        self._listed = asyncio.Event()
        throttle = ProgressThrottle(settings.progress_period_seconds, settings.progress_writes_per_second)
        writer = Writer(client, leader.guard)
        self._cluster = KubernetesCluster(
            writer,
            self._children,
            self.jobs,
            self._told,
            throttle,
            events=self._event_reading,
            again_at=self.queue.add_at,
            wrote=self._tell,
        )
        self._watches = [Watch(client, scope, sink) for scope, sink in self._scopes()]

    async def run(self) -> None:
        """Until the lease is lost."""
        polling = Polling(self._told, self._rank0s, self._heard, POLL_SECONDS)
        try:
            async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
                forever = [watch.run() for watch in self._watches]
                forever += [
                    self._source.run(self._job_told),
                    polling.run(),
                    self._events.run(),
                    self._sweeps(),
                ]
                forever.append(self._event_reading.run())
                forever += [self._work() for _ in range(self._settings.workers)]
                for each in forever:
                    stack.callback(tasks.create_task(each).cancel)
                await self._leader.hold()
        finally:
            await asyncio.shield(self._tell_the_rest())

    async def _tell_the_rest(self) -> None:
        """What this term wrote, for the next one never learns what has changed."""
        await self._cluster.finish(LAST_SECONDS)
        await self._events.drain(LAST_SECONDS)

    async def _work(self) -> NoReturn:
        """A worker. Nothing that goes wrong with one job is of any concern to another."""
        for watch in self._watches:
            await watch.synced.wait()
        while True:
            key = await self.queue.get()
            with about(key, self.jobs.get(key)):
                await self._safe_pass(key)

    async def _safe_pass(self, key: Key) -> None:
        try:
            with RECONCILE_SECONDS.time():
                await self._pass(key)
        except NotLeadingError:
            self.queue.failed(key, at_least=1.0)
        except ApiError as error:
            RECONCILE_ERRORS.labels(error.reason or str(error.code)).inc()
            log.info("the pass is tried again: %s", error)
            self.queue.failed(key, at_least=error.retry_after or 0.0)
        except Exception as error:
            RECONCILE_ERRORS.labels(type(error).__name__).inc()
            log.exception("the pass failed and is tried again")
            await self._give_up(key, error)
            self.queue.failed(key)

    async def _pass(self, key: Key) -> None:
        stored = self.jobs.get(key)
        if stored is None:
            self._forget(key)
        if stored is None or stored.deleting:  # its children go with it
            self.queue.done(key)
        else:
            await self._pass_over(key, stored)

    async def _pass_over(self, key: Key, stored: Stored) -> None:
        try:
            job = stored.parse()
        except ValidationError as error:
            await self._refuse(key, stored, error)
            self.queue.done(key)
            return
        done = await reconcile(job, self._cluster, self._settings, time.time())
        self._plan(key, job, done)

    def _plan(self, key: Key, job: RLJob, done: Pass) -> None:
        """When to look again."""
        if done.decision.wake_at is not None:
            self.queue.add_at(key, done.decision.wake_at)
        if done.decision.begin is not None or done.decision.replacements:
            # What was noted is done in the next pass, and nobody else tells of it.
            self.queue.add(key, first=True)
        if done.decision.begin is not None:
            self._children.pods.forget(key, before_attempt=done.decision.begin.number)
        if done.observed.refusal is not None:
            self.queue.failed(key, at_least=1.0)
        else:
            self.queue.done(key)

    async def _refuse(self, key: Key, stored: Stored, error: ValidationError) -> None:
        """The API server's own rules let it through, ours do not: the job says so, and what runs of it goes on."""
        before = stored.status
        await self._say(key, stored, before, refused(before, stored.generation, error, time.time()))

    async def _give_up(self, key: Key, error: Exception) -> None:
        """The job says that this operator fails at it. If even that fails, the log says so, and the next pass tries."""
        stored = self.jobs.get(key)
        if stored is None or stored.deleting:
            return
        try:
            before = stored.status
            await self._say(key, stored, before, given_up(before, stored.generation, error, time.time()))
        except (ApiError, NotLeadingError) as why:
            log.info("the job is not told of it: %s", why)
        except Exception:
            log.exception("nor can the job be told of it")

    async def _say(self, key: Key, stored: Stored, before: Status, new: Status) -> None:
        if new != before:
            await self._cluster.put_status(key, before, new, stored.version)

    def _tell(self, key: Key, stored: Stored, before: Status | None, after: Status) -> None:
        """What came about between the two, as Events; and in the log, why a job is not accepted."""
        if refusal := newly_refused(before, after):
            log.warning("the job is not accepted: %s", refusal)
        self._events.put(key, stored, happenings(before, after))

    def _forget(self, key: Key) -> None:
        self.queue.forget(key)
        self._cluster.forget(key)

    def _changed(self, key: Key) -> None:
        self.queue.add(key)

    def _heard(self, key: Key, news: News) -> None:
        """Of rank 0. That a training is further on is worth a pass only as often as it is worth a write."""
        if news is News.TURN:
            self.queue.add(key)
        else:
            self.queue.add_at(key, time.time() + self._settings.progress_period_seconds)

    def _job_told(self, kind: str | None, manifest: Manifest) -> None:
        """Those of other managers are not known here at all: no pass looks at them, and no metric counts them."""
        if kind is None:
            self._listed.set()
        if kind != "DELETED" and manifest["spec"].get("managedBy") in OURS:
            self.jobs.put(manifest)
            return
        metadata = manifest["metadata"]
        self.jobs.drop((metadata["namespace"], metadata["name"]), metadata["uid"])

    async def _sweeps(self) -> NoReturn:
        """After each list of jobs that kopf made, what it did not show is gone. Of one that shows none nobody hears."""
        while True:
            if await within(self._listed, SWEEP_EVERY_SECONDS):
                await asyncio.sleep(SWEEP_AFTER_SECONDS)
            self._listed.clear()
            try:
                for namespace in self._settings.namespaces or [""]:
                    await self._sweep(namespace)
            except ApiError as error:
                log.info("the list of jobs is tried again: %s", error)
                self._listed.set()

    async def _sweep(self, namespace: str) -> None:
        present: set[str] = set()
        async with aclosing(pages(self._client, JOBS.path(namespace), METADATA_LIST)) as listed:
            async for page in listed:
                present |= {item["metadata"]["uid"] for item in page["items"] or []}
                version = int(page["metadata"]["resourceVersion"])
        self.jobs.sweep(namespace, present, version)

    def _rank0s(self) -> Iterator[Rank0]:
        for key, stored in self.jobs.items():
            if address := self._children.pods.leader_address(key, stored.uid):
                yield key, stored.uid, address

    def _scopes(self) -> Iterator[tuple[Scope, Sink]]:
        for namespace in self._settings.namespaces or [""]:
            yield Scope(PODS, namespace, names.LABEL_NAME, False), self._children.pods
            for kind, resource in METADATA_KINDS.items():
                yield Scope(resource, namespace, names.LABEL_NAME, True), self._children.metadata[kind]


class Operator:
    """Leads and works, or waits for its turn."""

    def __init__(self, client: Client, leader: Leader, settings: Settings, source: JobSource) -> None:
        self._client = client
        self._leader = leader
        self._settings = settings
        self._source = source
        self._term: Term | None = None
        QUEUE_DEPTH.set_function(self.waiting)

    @property
    def jobs(self) -> Jobs | None:
        """None while another operator leads."""
        return self._term.jobs if self._term else None

    def waiting(self) -> int:
        """Jobs that wait for a worker: none while another operator leads."""
        return len(self._term.queue) if self._term else 0

    async def run(self) -> NoReturn:
        """Term after term, until cancelled; then the lease is given back."""
        try:
            while True:
                await self._leader.acquire()
                self._term = Term(self._client, self._leader, self._settings, self._source)
                await self._term.run()
                self._term = None
        finally:
            await asyncio.shield(self._leader.release())
