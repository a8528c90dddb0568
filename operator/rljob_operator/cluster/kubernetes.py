"""A real cluster: observed through watches, made real through `writer.py`. What stands already is not written again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from rljob_api.base import API_VERSION, KIND, Manifest
from rljob_api.job import RLJob
from rljob_api.known import with_unknown
from rljob_api.status import Status

from ..jobs import Jobs, Stored
from ..metrics import API_REFUSALS
from ..observed import Observed, Pod, Refusal, newest_progress
from ..queue import Key
from .children import Children, key_of
from .client import ApiError
from .event_reading import EventReading
from .lanes import in_lanes
from .polling import Answers
from .resources import JOBS, PODS
from .standing import Standing, Superfluous, signed
from .throttle import ProgressThrottle, only_progress
from .writer import RefusedError, Writer

log = logging.getLogger(__name__)


class KubernetesCluster:
    """`again_at` is told when a job needs a pass that no change will cause; `wrote` of each status that was written,
    with the job and the status before.
    """

    def __init__(
        self,
        writer: Writer,
        children: Children,
        jobs: Jobs,
        told: Answers,
        throttle: ProgressThrottle,
        *,
        events: EventReading,
        again_at: Callable[[Key, float], None],
        wrote: Callable[[Key, Stored, Status | None, Status], None],
    ) -> None:
        self._writer = writer
        self._children = children
        self._standing = Standing(children)
        self._jobs = jobs
        self._told = told
        self._events = events
        self._throttle = throttle
        self._again_at = again_at
        self._wrote = wrote
        self._refusals: dict[Key, Refusal] = {}
        """Of the jobs whose last pass met one."""
        self._under_way: set[asyncio.Task[None]] = set()
        """Writes of a status: each comes to its end, even if nobody waits for it any more, so that what it changes is
        told."""
        self._read: dict[Key, int] = {}
        """Version of the job that the pass at work began with: its status is written over no other."""

    async def observe(self, job: RLJob) -> Observed:
        key = key_of(job)
        self._read[key] = stored.version if (stored := self._jobs.get(key)) else 0
        config_maps = self._children.metadata["ConfigMap"].of(key)
        mine = frozenset(name for name, known in config_maps.items() if known.owner == job.metadata.uid)
        pods = tuple(sorted(self._children.pods.observed(job), key=lambda pod: pod.name))
        pods = tuple(self._events.explained(key, pods, mine))
        told = newest_progress((self._told.get(key, job.metadata.uid),), pods, job.attempt)
        if told is not None:  # what an ended pod said last stays known when the pod is gone
            self._told.put(key, job.metadata.uid, told)
        return Observed(
            pods=pods,
            trainer_vanished=self._children.pods.has_vanished(job),
            progress=told,
            listening_since=self._told.since,
            run_config_maps=mine,
            refusal=self._refusals.get(key),
        )

    async def apply(self, job: RLJob, manifests: Iterable[Manifest]) -> Refusal | None:
        """The attempt's ConfigMap comes last: once it is there, all its pods were asked for. Until then none starts.

        After a refusal of another kind than before, a pass is due at once: it may decide to ask for less.
        """
        return await self._heeded(key_of(job), self._make(job, [signed(manifest) for manifest in manifests]))

    async def restore(self, job: RLJob, manifests: Iterable[Manifest]) -> Refusal | None:
        key = key_of(job)
        gone = [signed(manifest) for manifest in manifests if self._standing.is_gone(key, manifest)]
        for manifest in gone:
            log.warning(
                "the %s %s is missing and is made again", manifest["kind"], manifest["metadata"]["name"]
            )
        refusal = await self._heeded(key, in_lanes(self._make_one, gone))
        if refusal is None:  # and `apply`, which comes before, was refused nothing either
            self._refusals.pop(key, None)
        return refusal

    async def delete(self, job: RLJob, pods: Iterable[Pod]) -> None:
        key, known = key_of(job), self._children.pods

        async def delete(pod: Pod) -> None:
            await self._writer.delete(PODS, key[0], pod.name, pod.uid, pod.grace_seconds)
            known.was_asked_to_go(key, pod)

        await in_lanes(delete, [pod for pod in pods if known.stays(key, pod)])

    async def delete_job(self, job: RLJob) -> None:
        await self._writer.delete(JOBS, job.metadata.namespace, job.metadata.name, job.metadata.uid)

    async def write_status(self, job: RLJob, status: Status) -> None:
        """Progress alone waits for its turn. Raises `ApiError` with code 409 if the job has changed since."""
        key, now = key_of(job), time.time()
        if only_progress(job.status, status):
            due = self._throttle.due(key, now)
            if now < due:
                self._again_at(key, due)
                return
            self._throttle.wrote(key, now)
        await self.put_status(key, job.status, status, self._read[key])

    async def put_status(self, key: Key, before: Status | None, status: Status, version: int) -> None:
        """`version` is that of the job which the status was made for; `before` is its status. What a newer operator
        wrote there and nobody here can read stays."""
        stored = self._jobs.get(key)
        if stored is None:
            return
        manifest = stored.manifest
        told = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        told = with_unknown(told, manifest.get("status") or {})
        body = {**manifest, "apiVersion": API_VERSION, "kind": KIND, "status": told}
        body["metadata"]["resourceVersion"] = str(version)
        writing = asyncio.create_task(self._put(key, stored, before, status, body))
        self._under_way.add(writing)
        writing.add_done_callback(self._under_way.discard)
        await asyncio.shield(writing)

    async def finish(self, seconds: float) -> None:
        """Wait for the writes under way, for so long at most."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)

    async def _put(
        self, key: Key, stored: Stored, before: Status | None, status: Status, body: Manifest
    ) -> None:
        try:
            answer = await self._writer.put_status(body)
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            self._jobs.drop(key, stored.uid)  # deleted meanwhile
        else:
            self._jobs.written(answer)
            self._wrote(key, stored, before, status)

    def forget(self, key: Key) -> None:
        """The job is gone."""
        self._refusals.pop(key, None)
        self._read.pop(key, None)
        self._throttle.forget(key)
        self._events.forget(key)
        self._told.forget(key)
        self._children.pods.forget(key)

    async def _heeded(self, key: Key, making: Awaitable[None]) -> Refusal | None:
        """What the API server did not want of it."""
        try:
            await making
        except RefusedError as refused:
            return self._note(key, refused)
        return None

    async def _make(self, job: RLJob, wanted: list[Manifest]) -> None:
        key = key_of(job)
        if any(self._standing.is_going(key, manifest) for manifest in wanted):
            return  # the end of its holder causes the next pass
        missing = [manifest for manifest in wanted if not self._standing.has(key, manifest)]
        pods = [manifest for manifest in missing if manifest["kind"] == "Pod"]
        records = [manifest for manifest in missing if manifest["kind"] == "ConfigMap"]
        rest = [manifest for manifest in missing if manifest["kind"] not in ("Pod", "ConfigMap", "Secret")]
        # Secrets are not watched, for that would be to read them; only new pods can need one.
        secrets = [manifest for manifest in missing if manifest["kind"] == "Secret" and pods]
        for stage in ([*rest, *secrets], pods, records):
            await in_lanes(self._make_one, stage)
        await in_lanes(
            partial(self._remove, key[0]), self._standing.superfluous(key, job.metadata.uid, wanted)
        )

    async def _remove(self, namespace: str, one: Superfluous) -> None:
        await self._writer.delete(one.resource, namespace, one.name, one.uid)

    async def _make_one(self, manifest: Manifest) -> None:
        kind = manifest["kind"]
        known, held = self._standing.is_known(manifest), self._standing.is_held(manifest)
        answer = await self._writer.make(manifest, known=known, held=held)
        if answer is not None and kind == "Pod":
            self._children.pods.written(answer)
        elif answer is not None and kind in self._children.metadata:
            self._children.metadata[kind].written(answer)

    def _note(self, key: Key, refused: RefusedError) -> Refusal:
        """As it is said now, but since when there was one of that kind."""
        error, manifest, before = refused.error, refused.manifest, self._refusals.get(key)
        kind, name, now = manifest["kind"], manifest["metadata"]["name"], time.time()
        API_REFUSALS.labels(error.reason).inc()
        new = Refusal(kind, name, error.code, error.reason, error.message, now)
        if before is not None and (before.kind, before.code, before.reason) == (kind, new.code, new.reason):
            new = replace(new, since=before.since)
        else:
            log.warning("the API server refused the %s %s: %s", kind, name, error.message)
            self._again_at(key, now)
        self._refusals[key] = new
        return new
