"""Scheduler, kubelets and garbage collector of a cluster in memory: pods are placed, run, end, and go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from builders import PLENTY, last_words
from kube.api import Manifest
from rljob_api.progress import Ending
from rljob_operator.cluster.resources import CHILD_KINDS, PODS
from rljob_operator.names import LABEL_ATTEMPT, LABEL_NAME, LABEL_ROLE

from .judge import label, secret_name
from .memory_api import OVER, MemoryApi
from .virtual_time import CLOCK

NAMESPACE = "default"
TICK_SECONDS = 0.25
SAVED = (Ending.PREEMPTED, 143)
LEAVINGS = (SAVED, (Ending.FAILED, 1), (Ending.FAILED, 137))
"""How a pod may end that was told to go: it saved, it met a peer's closed connection, or its grace was over."""


@dataclass
class Nodes:
    api: MemoryApi
    training_seconds: float
    leaving_seconds: float
    """A pod that is told to go takes so long: it saves."""
    room: int = PLENTY
    """Pods that find a node."""
    leavings: Sequence[tuple[Ending, int]] = (SAVED,)
    """How pods end that were told to go, by chance."""
    dice: random.Random = field(default_factory=lambda: random.Random(0))
    _since: dict[tuple[str, str], float] = field(default_factory=dict)
    """When a pod, by its UID, began to run or to leave."""

    async def run(self) -> NoReturn:
        seen = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.api.revision != seen:
                seen = self.api.revision
                self._collect_garbage()
            for pod in self.api.all("pods"):
                if pod["status"]["phase"] not in OVER or "deletionTimestamp" in pod["metadata"]:
                    self._tend(pod)

    def _collect_garbage(self) -> None:
        alive = {job["metadata"]["uid"] for job in self.api.all("rljobs")}
        for resource in CHILD_KINDS.values():
            for one in self.api.all(resource.plural):
                owners = {owner["uid"] for owner in one["metadata"].get("ownerReferences", [])}
                if owners and not owners & alive:
                    self.api.delete(resource.path(NAMESPACE, one["metadata"]["name"]))

    def _tend(self, pod: Manifest) -> None:
        name, phase = pod["metadata"]["name"], pod["status"]["phase"]
        if not pod["spec"].get("nodeName"):
            self._place(name, pod)
        elif "deletionTimestamp" in pod["metadata"]:
            self._leave(name, pod)
        elif phase == "Pending" and not self._has_secret(pod):
            self._wait_for_secret(name, pod)
        elif phase == "Pending" and self._is_mountable(pod):
            ready = [{"type": "Ready", "status": "True"}]
            self.say(name, phase="Running", startTime=CLOCK.text(), conditions=ready)
            self._begins("running", pod)
        elif phase == "Running" and label(pod, LABEL_ROLE) == "trainer" and self._has_trained(pod):
            self.end(name, Ending.COMPLETE, 0)

    def _place(self, name: str, pod: Manifest) -> None:
        if self.room > sum(self._is_placed(one) for one in self.api.all("pods")):
            target = {"metadata": {"name": name}, "target": {"name": "n"}}
            self.api.post(PODS.path(NAMESPACE, name, "binding"), target)
        elif not pod["status"].get("conditions"):
            no_node = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            self.say(name, conditions=[{**no_node, "message": "0/1 nodes are available: 1 too many pods"}])

    def _leave(self, name: str, pod: Manifest) -> None:
        running = pod["status"]["phase"] == "Running"
        self._begins("leaving", pod)
        if running and self._seconds("leaving", pod) < self.leaving_seconds:
            return
        if running:
            self.end(name, *self.dice.choice(self.leavings))
        self.vanish(name)

    def _is_placed(self, pod: Manifest) -> bool:
        return bool(pod["spec"].get("nodeName")) and pod["status"]["phase"] not in OVER

    def _is_mountable(self, pod: Manifest) -> bool:
        """A container starts when its volumes are there."""
        wanted = {volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if "configMap" in volume}
        return wanted <= {one["metadata"]["name"] for one in self.api.all("configmaps")}

    def _has_secret(self, pod: Manifest) -> bool:
        return secret_name(pod) in {one["metadata"]["name"] for one in self.api.all("secrets")}

    def _wait_for_secret(self, name: str, pod: Manifest) -> None:
        waits = {"reason": "CreateContainerConfigError", "message": f'secret "{secret_name(pod)}" not found'}
        self.say(name, containerStatuses=[{"name": "main", "state": {"waiting": waits}}])

    def _has_trained(self, pod: Manifest) -> bool:
        """The gang ran for long enough, all of it."""
        same = (LABEL_NAME, LABEL_ROLE, LABEL_ATTEMPT)
        wanted = [label(pod, key) for key in same]
        gang = [one for one in self.api.all("pods") if [label(one, key) for key in same] == wanted]
        return all(self._seconds("running", one) > self.training_seconds for one in gang)

    def _begins(self, what: str, pod: Manifest) -> None:
        self._since.setdefault((what, pod["metadata"]["uid"]), CLOCK.monotonic())

    def _seconds(self, what: str, pod: Manifest) -> float:
        """For how long the pod has been doing that."""
        now = CLOCK.monotonic()
        return now - self._since.get((what, pod["metadata"]["uid"]), now)

    def end(self, name: str, ending: Ending, exit_code: int) -> None:
        words = last_words(ending, exit_code=exit_code).model_dump_json(by_alias=True)
        ended = {"exitCode": exit_code, "message": words, "finishedAt": CLOCK.text(), "reason": "Error"}
        self.say(
            name,
            phase="Failed" if exit_code else "Succeeded",
            conditions=[{"type": "Ready", "status": "False"}, *self._disruption(name)],
            containerStatuses=[{"name": "main", "state": {"terminated": ended}}],
        )

    def _disruption(self, name: str) -> list[Manifest]:
        """What an eviction said of it: kubelets leave that alone."""
        said = self.api.get(PODS.path(NAMESPACE, name)).body["status"].get("conditions", [])
        return [one for one in said if one["type"] == "DisruptionTarget"]

    def evict(self, name: str) -> None:
        disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        self.say(name, conditions=[{"type": "Ready", "status": "True"}, disrupted])
        self.api.delete(PODS.path(NAMESPACE, name))

    def vanish(self, name: str) -> None:
        self.api.delete(PODS.path(NAMESPACE, name), {"gracePeriodSeconds": 0})

    def say(self, name: str, **status: object) -> None:
        self.api.merge(PODS.path(NAMESPACE, name, "status"), {"status": status})
