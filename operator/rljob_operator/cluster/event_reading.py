"""What Events say of pods that have a node and do not start: a volume that cannot be mounted shows nowhere else.

A cluster makes thousands of Events, so they are not watched. Those of a pod are listed when it has been silent for
seconds, and again after longer and longer pauses: of the first silent pod of each role, as the others of its role
mount the same.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from rljob_api.base import Manifest

from .. import names
from ..observed import Pod
from ..queue import Key
from ..within import within
from .client import ApiError, Client
from .resources import EVENTS

FIRST_LOOK_SECONDS = 2.0
"""A kubelet tells of a volume that is not there within a second of the pod's arrival."""
LONGEST_PAUSE_SECONDS = 60.0
LOOKS_PER_SECOND = 20.0
"""Over all jobs: each makes the API server read all Events of a namespace."""
MOST_EVENTS = 500
"""Of one pod. Whoever may edit a namespace can make more of them than we have room for."""
CAUSES = frozenset(
    {"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "NetworkNotReady"}
)
"""Reasons of Events, of the kubelet and of the controller that attaches volumes, that say why a pod does not start."""
ADVANCES = frozenset({"SuccessfulAttachVolume", "SuccessfulMountVolume", "Pulling", "Pulled", "Created"})
"""Reasons of Events after which an earlier cause is none any more."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Silence:
    """A pod that does not say what it waits for, and what was read of it."""

    pod: Pod
    due: float
    """When to look, by the event loop's clock."""
    looks: int = 0
    reason: str = ""
    message: str = ""


class EventReading:
    """`heard` is called with each job of whose pods something else is known than before."""

    def __init__(self, client: Client, heard: Callable[[Key], None]) -> None:
        self._client = client
        self._heard = heard
        self._silences: dict[Key, dict[str, Silence]] = {}
        """By the pod's UID."""
        self._more = asyncio.Event()

    def explained(self, key: Key, pods: Iterable[Pod], runs: Iterable[str]) -> Iterator[Pod]:
        """The pods, with what was read of those that are silent. `runs` are ConfigMaps of attempts that stand."""
        pods, runs = list(pods), frozenset(runs)
        asked = [
            pod for pod in _first_of_each_role(pods) if names.run_config_map(key[1], pod.attempt) in runs
        ]
        self._keep(key, asked)
        known = self._silences.get(key, {})
        for pod in pods:
            said = known.get(pod.uid)
            yield replace(pod, reason=said.reason, message=said.message) if said else pod

    def forget(self, key: Key) -> None:
        """The job is gone."""
        self._silences.pop(key, None)

    async def run(self) -> NoReturn:
        while True:
            key, silence = await self._next()
            if await self._look(key, silence):
                self._heard(key)
            await asyncio.sleep(1 / LOOKS_PER_SECOND)

    def _keep(self, key: Key, silent: list[Pod]) -> None:
        """Those and no others are looked at."""
        before = self._silences.pop(key, {})
        due = _now() + FIRST_LOOK_SECONDS
        if silent:
            self._silences[key] = {pod.uid: before.get(pod.uid) or Silence(pod, due) for pod in silent}
            self._more.set()

    async def _next(self) -> tuple[Key, Silence]:
        """Waits until one is due."""
        while True:
            self._more.clear()
            waiting = [(key, one) for key, known in self._silences.items() for one in known.values()]
            key, first = min(waiting, key=lambda found: found[1].due, default=(None, None))
            if key is not None and first is not None and first.due <= _now():
                return key, first
            await within(self._more, first.due - _now() if first else None)

    async def _look(self, key: Key, silence: Silence) -> bool:
        """Whether it says something else than before."""
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_LOOK_SECONDS * 2**silence.looks)
        silence.looks, silence.due = silence.looks + 1, _now() + pause
        before = silence.reason, silence.message
        try:
            found = await self._client.send(
                "GET",
                EVENTS.path(key[0]),
                params={"fieldSelector": f"involvedObject.uid={silence.pod.uid}", "limit": str(MOST_EVENTS)},
            )
        except ApiError as error:
            log.info("the Events of %s are asked for again: %s", silence.pod.name, error)
            return False
        own = names.run_config_map(key[1], silence.pod.attempt)
        silence.reason, silence.message = cause(found["items"] or [], own)
        return before != (silence.reason, silence.message)


def cause(events: Iterable[Manifest], own: str) -> tuple[str, str]:
    """Reason and message of the newest Event if it is one that keeps a pod from starting, else two empty strings.

    The attempt's ConfigMap, `own`, is posted after the pods that mount it: that it is missing is no cause.
    """
    telling = [one for one in events if one.get("reason") in CAUSES | ADVANCES]
    telling = [one for one in telling if f'"{own}" not found' not in (one.get("message") or "")]
    newest = max(telling, key=lambda one: (_when(one), one["reason"] in CAUSES), default=None)
    if newest is None or newest["reason"] not in CAUSES:
        return "", ""
    return newest["reason"], " ".join((newest.get("message") or "").split())


def _when(event: Manifest) -> str:
    """The second of its last occurrence, as text that sorts: kubelets tell no finer."""
    series = (event.get("series") or {}).get("lastObservedTime")
    times = (series, event.get("lastTimestamp"), event.get("eventTime"))
    return next((one for one in times if one), "")[: len("2026-01-01T00:00:00")]


def _first_of_each_role(pods: list[Pod]) -> Iterator[Pod]:
    silent = sorted((pod for pod in pods if pod.silent), key=lambda pod: (pod.role, pod.index))
    for _, same in itertools.groupby(silent, key=lambda pod: pod.role):
        yield next(same)


def _now() -> float:
    return asyncio.get_running_loop().time()
