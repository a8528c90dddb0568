"""A cluster in memory: users, nodes, and operators that come and go, under the eyes of a judge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from builders import manifest
from invariants import Invariant
from kube.api import Manifest
from rljob_operator.cluster.resources import CHILD_KINDS, JOBS
from rljob_operator.leader import Leader, Terms
from rljob_operator.names import LABEL_NAME
from rljob_operator.run_cluster import Operator
from rljob_operator.settings import Settings

from .judge import Judge, label, runs
from .memory_api import MemoryApi
from .memory_client import Faults, ListedJobs, MemoryClient
from .nodes import NAMESPACE, TICK_SECONDS, Nodes
from .virtual_time import CLOCK

SETTINGS = Settings(workers=4)


@dataclass
class World:
    faults: Faults = field(default_factory=Faults)
    training_seconds: float = 20.0
    leaving_seconds: float = 0.0
    api: MemoryApi = field(default_factory=lambda: MemoryApi(CLOCK.text))
    judge: Judge = field(init=False)
    nodes: Nodes = field(init=False)
    client: MemoryClient = field(init=False)
    operator: Operator = field(init=False)
    """The newest one."""
    _at_work: asyncio.Task[None] | None = None
    _operators: int = 0

    def __post_init__(self) -> None:
        self.judge = Judge(api=self.api)
        self.nodes = Nodes(self.api, self.training_seconds, self.leaving_seconds)

    # Operators

    def start_operator(self) -> None:
        self._operators += 1
        self.client = MemoryClient(self.api, self.faults)
        terms = Terms(NAMESPACE, "lease", f"operator-{self._operators}", 15.0, 5.0)
        self.operator = Operator(self.client, Leader(self.client, terms), SETTINGS, ListedJobs(self.client))
        self._at_work = asyncio.create_task(self.operator.run())

    async def crash_operator(self) -> None:
        """At once: nothing that it was about to do happens, and nobody hears of it."""
        self.client.dead = True
        await self.stop_operator()

    async def stop_operator(self) -> None:
        """In order, as by SIGTERM."""
        assert self._at_work is not None
        self._at_work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._at_work
        self._at_work = None

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Nodes are at work. Raises `BrokenError` if anything was broken until the end."""
        with self.judge.listening():
            at_work = asyncio.create_task(self.nodes.run())
            try:
                yield
            finally:
                at_work.cancel()
                if self._at_work is not None:
                    await self.crash_operator()
        self.judge.check()

    # Users

    def submit(self, name: str = "demo", **spec: object) -> None:
        quick = {"backoffSeconds": {"initial": 1, "max": 4}, "maxRestarts": 1000}
        body = manifest(**{"failurePolicy": quick, **spec}) | {"metadata": {"name": name}}
        assert self.api.post(JOBS.path(NAMESPACE), body).code == 201

    def edit(self, name: str, **spec: object) -> None:
        self.api.merge(JOBS.path(NAMESPACE, name), {"spec": spec})

    def delete(self, name: str) -> None:
        self.api.delete(JOBS.path(NAMESPACE, name))

    def delete_secrets(self) -> None:
        """Those with the jobs' tokens."""
        for secret in self.api.all("secrets"):
            self.api.delete(CHILD_KINDS["Secret"].path(NAMESPACE, secret["metadata"]["name"]))

    # Looks

    def jobs(self) -> dict[str, Manifest]:
        return {job["metadata"]["name"]: job for job in self.api.all("rljobs")}

    def phases(self) -> dict[str, str]:
        return {name: job.get("status", {}).get("phase", "") for name, job in self.jobs().items()}

    def pods(self, job: str = "") -> list[Manifest]:
        return [pod for pod in self.api.all("pods") if job in ("", label(pod, LABEL_NAME))]

    def running(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods() if runs(pod)]

    def writes(self) -> int:
        """Changes so far that were not about the lease or events."""
        return sum(change.plural not in ("leases", "events") for change in self.api.changes)

    async def comes(
        self,
        condition: Callable[[], bool],
        invariant: Invariant = Invariant.NO_JOB_IS_LOST,
        seconds: float = 600.0,
    ) -> None:
        """Within so much virtual time, or that is broken."""
        came = await until(condition, seconds)
        self.judge.demand(came, invariant, lambda: f"{self.phases()}, running {self.running()}")

    async def is_quiet(self, seconds: float = 120.0) -> None:
        """Nothing happens, and nothing is written for so long."""
        before = self.writes()
        await asyncio.sleep(seconds)
        self.judge.demand(
            self.writes() == before, Invariant.QUIET, lambda: f"{self.writes() - before} writes"
        )


async def until(condition: Callable[[], bool], seconds: float = 600.0) -> bool:
    """Whether it came about within so much virtual time."""
    deadline = CLOCK.monotonic() + seconds
    while not condition():
        if CLOCK.monotonic() > deadline:
            return False
        await asyncio.sleep(TICK_SECONDS)
    return True
