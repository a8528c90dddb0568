"""Random schedules for the pure core in virtual time: passes, nodes, users and news take turns by chance."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from builders import NOW, PLENTY, a_job
from invariants import Invariant
from rljob_api.status import Phase
from rljob_operator.cluster.client import ApiError
from rljob_operator.observed import Pod
from rljob_operator.reconcile import Pass, reconcile
from rljob_operator.settings import Settings

from .plain_cluster import DiedError, PlainCluster
from .plain_nodes import BLOWS, PlainNodes

SETTINGS = Settings()
TURNS = 200
"""In which all may go wrong."""
CALM_TURNS = 200
"""In which nothing does: more than any job needs to its end."""
QUICK = {"backoffSeconds": {"initial": 1, "max": 4}}
TURN = [
    *["pass"] * 8,
    *["node"] * 10,
    *["news"] * 8,
    *["time"] * 3,
    *["blow"] * 3,
    *("list", "death", "edit", "room", "quota"),
]


TAKEN = ("evicted", "gone")
"""What may happen to a pod of which nothing failed."""


def play(seed: int, max_restarts: int = 1000, blows: tuple[str, ...] = BLOWS) -> None:
    """Raises `BrokenError`."""
    dice = random.Random(seed)
    nodes, replicas = dice.randint(1, 3), dice.randint(1, 3)
    policy = {**QUICK, "maxRestarts": max_restarts}
    job = a_job(trainer={"numNodes": nodes}, rollout={"replicas": replicas}, failurePolicy=policy)
    cluster = PlainCluster(job, dice, NOW, trouble=dice.choice([0.0, 0.02, 0.1, 0.3]))
    at_work = PlainNodes(cluster, haste=dice.choice([0.02, 0.1, 0.5]), blows=blows)
    asyncio.run(Schedule(cluster, at_work).play())


@dataclass
class Schedule:
    cluster: PlainCluster
    nodes: PlainNodes

    @property
    def dice(self) -> random.Random:
        return self.cluster.dice

    async def play(self) -> None:
        for _ in range(TURNS):
            await self._turn()
        await self._calm()
        self._judge_end()
        await self._judge_quiet()
        self.cluster.record.check()

    async def _turn(self) -> None:
        match self.dice.choice(TURN):
            case "pass":
                await self._pass()
            case "node":
                self._one(self.nodes.tend)
            case "blow":
                self._one(self.nodes.strike)
            case "news":
                self.cluster.hear()
            case "list":
                self.cluster.hear_all()
            case "death":
                self.cluster.die()
            case "edit":
                self._edit()
            case "room":
                self.nodes.room = self.dice.choice([0, 1, 2, 3, PLENTY])
            case "quota":
                self.cluster.quota = self.dice.choice([0, 1, 2, 3, PLENTY])
            case "time":
                self.cluster.now += self.dice.choice([1, 5, 30, 700])
            case other:
                raise AssertionError(other)

    async def _pass(self) -> Pass | None:
        """None if it was cut short."""
        cluster = self.cluster
        try:
            return await reconcile(cluster.known_job, cluster, SETTINGS, cluster.now)
        except ApiError:
            return None
        except DiedError:
            cluster.die()
            return None

    def _one(self, do: Callable[[Pod], None]) -> None:
        """To any pod."""
        if self.cluster.pods:
            do(self.dice.choice(self.cluster.pods))

    def _edit(self) -> None:
        if self.dice.random() < 0.5:
            self._change_spec(suspend=not self.cluster.job.spec.suspend)
        else:
            scaled = {"replicas": self.dice.randint(1, 3)}
            self._change_spec(rollout=self.cluster.job.spec.rollout.model_copy(update=scaled))

    def _change_spec(self, **fields: object) -> None:
        job = self.cluster.job
        spec = job.spec.model_copy(update=fields)
        metadata = job.metadata.model_copy(update={"generation": job.metadata.generation + 1})
        self.cluster.change("job", job.model_copy(update={"spec": spec, "metadata": metadata}))

    async def _calm(self) -> None:
        """Nothing goes wrong any more, until the job is over."""
        cluster = self.cluster
        cluster.trouble, cluster.quota, self.nodes.room, self.nodes.haste = 0.0, PLENTY, PLENTY, 1.0
        if cluster.job.spec.suspend:
            self._change_spec(suspend=False)
        for _ in range(CALM_TURNS):
            cluster.hear_all()
            done = await self._pass()
            if self._is_over(done):
                return
            for pod in cluster.pods:
                self.nodes.tend(pod)
            cluster.now += until_next(done, cluster.now)

    def _is_over(self, done: Pass | None) -> bool:
        if done is None or not done.settled:
            return False
        return done.status == self.cluster.job.status and bool(done.status.completion_time)

    def _judge_end(self) -> None:
        record, status = self.cluster.record, self.cluster.job.status
        phase = status.phase if status else None
        record.demand(phase is Phase.COMPLETE, Invariant.NO_JOB_IS_LOST, lambda: f"{phase}")
        living = [pod.name for pod in self.cluster.pods if not pod.ended]
        record.demand(not living, Invariant.NOTHING_IS_LEFT, lambda: f"{living}")

    async def _judge_quiet(self) -> None:
        cluster, before = self.cluster, self.cluster.writes
        cluster.now += 3600
        await self._pass()
        cluster.record.demand(cluster.writes == before, Invariant.QUIET, lambda: "a pass after the end")


def until_next(done: Pass | None, now: float) -> float:
    """Seconds until the next look, a minute at most: nodes have something to do meanwhile."""
    due = done.decision.wake_at if done is not None else None
    return min(60.0, max(1.0, (due or now) - now))
