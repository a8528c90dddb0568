"""A cluster in memory: users, scheduler, kubelets, garbage collector, and operators that come and go.

It watches over what must never happen, at every change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from builders import last_words, manifest
from kube.api import Manifest
from rljob_api.progress import Ending
from rljob_operator.cluster.resources import JOBS, PODS
from rljob_operator.leader import Leader, Terms
from rljob_operator.names import LABEL_ATTEMPT, LABEL_INDEX, LABEL_NAME, LABEL_ROLE
from rljob_operator.run_cluster import Operator
from rljob_operator.settings import Settings

from .memory_api import Change, MemoryApi
from .memory_client import Faults, ListedJobs, MemoryClient
from .virtual_time import CLOCK

NAMESPACE = "default"
TICK_SECONDS = 0.25
SETTINGS = Settings(workers=4)
OVER = ("Succeeded", "Failed")


@dataclass
class World:
    faults: Faults = field(default_factory=Faults)
    training_seconds: float = 20.0
    api: MemoryApi = field(default_factory=lambda: MemoryApi(CLOCK.text))
    violations: list[str] = field(default_factory=list)
    client: MemoryClient = field(init=False)
    _operator: asyncio.Task[None] | None = None
    _operators: int = 0
    _running_since: dict[str, float] = field(default_factory=dict)
    _attempts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.api.on_change.append(self._judge)

    # Operators

    def start_operator(self) -> None:
        self._operators += 1
        self.client = MemoryClient(self.api, self.faults)
        terms = Terms(NAMESPACE, "lease", f"operator-{self._operators}", 15.0, 5.0)
        operator = Operator(self.client, Leader(self.client, terms), SETTINGS, ListedJobs(self.client))
        self._operator = asyncio.create_task(operator.run())

    async def crash_operator(self) -> None:
        """At once: nothing that it was about to do happens, and nobody hears of it."""
        assert self._operator is not None
        self.client.dead = True
        self._operator.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._operator
        self._operator = None

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Kubelets and the garbage collector are at work."""
        at_work = asyncio.create_task(self._nodes())
        try:
            yield
        finally:
            at_work.cancel()
            if self._operator is not None:
                await self.crash_operator()

    # Users

    def submit(self, name: str = "demo", **spec: object) -> None:
        quick = {"backoffSeconds": {"initial": 1, "max": 4}, "maxRestarts": 1000}
        body = manifest(**{"failurePolicy": quick, **spec}) | {"metadata": {"name": name}}
        assert self.api.post(JOBS.path(NAMESPACE), body).code == 201

    def edit(self, name: str, **spec: object) -> None:
        self.api.merge(JOBS.path(NAMESPACE, name), {"spec": spec})

    def delete(self, name: str) -> None:
        self.api.delete(JOBS.path(NAMESPACE, name))

    # Looks

    def jobs(self) -> dict[str, Manifest]:
        return {job["metadata"]["name"]: job for job in self.api.all("rljobs")}

    def phases(self) -> dict[str, str]:
        return {name: job.get("status", {}).get("phase", "") for name, job in self.jobs().items()}

    def pods(self, job: str = "") -> list[Manifest]:
        return [pod for pod in self.api.all("pods") if job in ("", _label(pod, LABEL_NAME))]

    def running(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods() if pod["status"]["phase"] == "Running"]

    def writes(self) -> int:
        """Changes so far that were not about the lease or events."""
        return sum(change.plural not in ("leases", "events") for change in self.api.changes)

    # Nodes

    async def _nodes(self) -> None:
        seen = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.api.revision != seen:
                seen = self.api.revision
                self.collect_garbage()
            for pod in self.pods():
                self._tend(pod)

    def collect_garbage(self) -> None:
        alive = {job["metadata"]["uid"] for job in self.api.all("rljobs")}
        for plural in (
            "pods",
            "configmaps",
            "secrets",
            "services",
            "networkpolicies",
            "poddisruptionbudgets",
        ):
            for one in self.api.all(plural):
                owners = {owner["uid"] for owner in one["metadata"].get("ownerReferences", [])}
                if owners and not owners & alive:
                    self.api.delete(_path(plural, one["metadata"]["name"]))

    def _tend(self, pod: Manifest) -> None:
        name, phase = pod["metadata"]["name"], pod["status"]["phase"]
        if not pod["spec"].get("nodeName"):
            self.api.post(
                PODS.path(NAMESPACE, name, "binding"), {"metadata": {"name": name}, "target": {"name": "n"}}
            )
        elif "deletionTimestamp" in pod["metadata"]:
            if phase == "Running":
                self.end(name, Ending.PREEMPTED, 143)
            self.vanish(name)
        elif phase == "Pending" and self._is_mountable(pod):
            self._say(
                name,
                phase="Running",
                startTime=CLOCK.text(),
                conditions=[{"type": "Ready", "status": "True"}],
            )
            self._running_since[pod["metadata"]["uid"]] = CLOCK.monotonic()
        elif phase == "Running" and _label(pod, LABEL_ROLE) == "trainer" and self._has_trained(pod):
            self.end(name, Ending.COMPLETE, 0)

    def _is_mountable(self, pod: Manifest) -> bool:
        """A container starts when its volumes are there."""
        wanted = {volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if "configMap" in volume}
        return wanted <= {one["metadata"]["name"] for one in self.api.all("configmaps")}

    def _has_trained(self, pod: Manifest) -> bool:
        """The gang ran for long enough, all of it."""
        gang = self._gang(pod)
        return all(
            CLOCK.monotonic() - self._running_since.get(one["metadata"]["uid"], CLOCK.monotonic())
            > self.training_seconds
            for one in gang
        )

    def _gang(self, pod: Manifest) -> list[Manifest]:
        same = (LABEL_NAME, LABEL_ROLE, LABEL_ATTEMPT)
        return [one for one in self.pods() if all(_label(one, key) == _label(pod, key) for key in same)]

    def end(self, name: str, ending: Ending, exit_code: int) -> None:
        words = last_words(ending, exit_code=exit_code).model_dump_json(by_alias=True)
        state = {
            "terminated": {
                "exitCode": exit_code,
                "message": words,
                "finishedAt": CLOCK.text(),
                "reason": "Error",
            }
        }
        self._say(
            name,
            phase="Failed" if exit_code else "Succeeded",
            conditions=[{"type": "Ready", "status": "False"}],
            containerStatuses=[{"name": "main", "state": state}],
        )

    def evict(self, name: str) -> None:
        disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        self._say(name, conditions=[{"type": "Ready", "status": "True"}, disrupted])
        self.api.delete(PODS.path(NAMESPACE, name))

    def vanish(self, name: str) -> None:
        self.api.delete(PODS.path(NAMESPACE, name), {"gracePeriodSeconds": 0})

    def _say(self, name: str, **status: object) -> None:
        self.api.merge(PODS.path(NAMESPACE, name, "status"), {"status": status})

    # What must never happen

    def _judge(self, change: Change) -> None:
        if change.plural == "pods" and change.type == "ADDED":
            self._judge_new_pod(change.object)
        if change.plural == "pods" and change.object["status"]["phase"] == "Running":
            self._judge_gang(change.object)
        if change.plural == "persistentvolumeclaims" and change.type == "DELETED":
            self.violations.append("a claim was deleted")
        if change.plural == "rljobs":
            self._judge_attempt(change.object)

    def _judge_new_pod(self, pod: Manifest) -> None:
        attempt = self._attempts.get(_owner(pod), 0)
        name = pod["metadata"]["name"]
        if int(_label(pod, LABEL_ATTEMPT)) > attempt:
            self.violations.append(f"{name} is of an attempt that the status does not know")
        same: tuple[str, ...] = (LABEL_NAME, LABEL_ROLE, LABEL_INDEX)
        if _label(pod, LABEL_ROLE) == "trainer":
            same = (*same, LABEL_ATTEMPT)
        twins = [
            one
            for one in self.pods()
            if _lives(one) and all(_label(one, key) == _label(pod, key) for key in same)
        ]
        twins = [one for one in twins if _owner(one) == _owner(pod)]
        if len(twins) > 1:
            self.violations.append(f"two live pods of one rank: {[one['metadata']['name'] for one in twins]}")

    def _judge_gang(self, pod: Manifest) -> None:
        if _label(pod, LABEL_ROLE) != "trainer":
            return
        same = (LABEL_NAME, LABEL_ROLE)
        gang = [
            one for one in self.pods() if one["status"]["phase"] == "Running" and _owner(one) == _owner(pod)
        ]
        attempts = {
            _label(one, LABEL_ATTEMPT) for one in gang if all(_label(one, k) == _label(pod, k) for k in same)
        }
        if len(attempts) > 1:
            self.violations.append(f"trainers of attempts {attempts} run at once")

    def _judge_attempt(self, job: Manifest) -> None:
        number = (job.get("status", {}).get("attempt") or {}).get("number", 0)
        uid = job["metadata"]["uid"]
        if number < self._attempts.get(uid, 0):
            self.violations.append(f"the attempt went back to {number}")
        self._attempts[uid] = number


def _lives(pod: Manifest) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] not in OVER


def _label(one: Manifest, key: str) -> str:
    return str(one["metadata"]["labels"].get(key, ""))


def _owner(one: Manifest) -> str:
    return str(one["metadata"]["ownerReferences"][0]["uid"])


def _path(plural: str, name: str) -> str:
    roots = {"networkpolicies": "/apis/networking.k8s.io/v1", "poddisruptionbudgets": "/apis/policy/v1"}
    return f"{roots.get(plural, '/api/v1')}/namespaces/{NAMESPACE}/{plural}/{name}"


async def until(condition: Callable[[], bool], seconds: float = 600.0) -> bool:
    """Whether it came about within so much virtual time."""
    deadline = CLOCK.monotonic() + seconds
    while not condition():
        if CLOCK.monotonic() > deadline:
            return False
        await asyncio.sleep(TICK_SECONDS)
    return True
