"""A large job in virtual time: the operator's own `decide` and `status`, the trainer's own board, and a played cluster.

What is played is machines and how long things take; who restarts what, what is counted where, and what the status says
comes from the code that runs in clusters.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from rljob_api.failure import RoleName
from rljob_api.goodput import Goodput
from rljob_api.job import RLJob
from rljob_api.progress import Progress, Resumed, TrainPhase
from rljob_api.run import Paths, Run
from rljob_api.status import Exactness
from rljob_operator.decide import Decision, PodStart, decide
from rljob_operator.observed import Observed, Pod, PodPhase
from rljob_operator.status import status
from rljob_trainer.checkpoint.resume import ResumePlan
from rljob_trainer.progress import ProgressBoard

GPUS_PER_NODE = 8
BEGINNING = 1_700_000_000.0
BETWEEN = {TrainPhase.TRAIN, TrainPhase.SYNC, TrainPhase.SAVE}
"""Phases of a step after its first."""


@dataclass(frozen=True)
class Costs:
    """How long things take, in seconds."""

    mtbf: float
    """Between two failures of any of the job's machines, exponentially distributed."""
    generate: float
    train: float
    sync: float
    """Giving all servers new weights."""
    save_stall: float
    """Training waits so long for a save in the background."""
    save: float
    """From the begin of a save until it is whole."""
    load: float
    notice: float
    """From a failure until the last pod of the gang has ended: ranks that hang in collectives are killed."""
    post: float
    """From the end of the last pod until those of the next attempt are posted."""
    start: float
    """From there until all ranks have met: placement, processes, imports, communicators."""
    server_start: float
    """From the post of a rollout server until it serves."""
    silent_share: float
    """Of failures: the node falls silent, and the cluster takes `silent` to call it lost."""
    silent: float
    keeps_groups: bool = True
    """Complete groups of the step in hand survive; groups are taken to become complete one after the other."""
    keeps_servers: bool = True
    """A trainer's failure leaves the servers as they are; False restarts everything."""


@dataclass(frozen=True)
class Kept:
    """Groups of a step that was not finished, on the volume."""

    step: int = -1
    """Finished steps: the weights that they were drawn with."""
    share: float = 0.0
    """Of the step's groups."""
    seconds: float = 0.0
    """That went into them."""


@dataclass
class World:
    """One job, from its first pod to the end of the simulated time."""

    job: RLJob
    costs: Costs
    dice: random.Random
    now: float = BEGINNING
    pods: dict[str, Pod] = field(default_factory=dict)
    config_maps: set[str] = field(default_factory=set)
    board: ProgressBoard | None = None
    saved: int = 0
    """Step of the newest whole checkpoint."""
    finished: int = 0
    servers_ready_at: float = 0.0
    kept: Kept = Kept()
    answering_since: tuple[int, float] = (0, 0.0)
    """The step in hand, and since when the servers answer for it."""
    slower: float = 0.0
    """Seconds that lost servers add to the next answers."""
    failures: int = 0
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)
    _life: int = 0
    """Rises with each attempt: what an earlier one had planned does not happen."""

    def run(self, seconds: float) -> Goodput:
        """What the status says in the end."""
        self._at(self.now, self._pass)
        self._at(self.now + self.dice.expovariate(1 / self.costs.mtbf), self._fail)
        end = self.now + seconds
        while self._due[0][0] <= end:
            self.now, _, act = heapq.heappop(self._due)
            act()
        self.now = end
        self._pass()
        assert self.job.status is not None
        assert self.job.status.goodput is not None
        return self.job.status.goodput

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), act))

    def _pass(self) -> None:
        """As `reconcile`: observe, decide, tell, act; again until nothing is left to do."""
        while True:
            observed = Observed(
                pods=tuple(self.pods.values()),
                progress=self._told(),
                run_config_maps=frozenset(self.config_maps),
            )
            decision = decide(self.job, observed, self.now)
            self.job = self.job.model_copy(update={"status": status(self.job, observed, decision, self.now)})
            self._delete(decision)
            self._post(decision)
            if decision.wake_at is not None and decision.wake_at > self.now:
                self._at(decision.wake_at, self._pass)
            if not (decision.begin or decision.delete or decision.start):
                return

    def _told(self) -> Progress | None:
        return self.board.progress() if self.board else None

    def _delete(self, decision: Decision) -> None:
        for pod in decision.delete:
            self.pods.pop(pod.name, None)

    def _post(self, decision: Decision) -> None:
        if not decision.start:
            return
        assert self.job.status is not None
        assert self.job.status.attempt is not None
        attempt = self.job.status.attempt
        self.config_maps.add(attempt.run_config_map_name)
        for start in decision.start:
            self._post_one(start, attempt.number)
        if any(start.role is RoleName.TRAINER for start in decision.start):
            self._life += 1
            life = self._life
            self._at(self.now + self.costs.post + self.costs.start, lambda: self._begin(attempt.number, life))

    def _post_one(self, start: PodStart, attempt: int) -> None:
        self.pods[start.name] = Pod(
            name=start.name,
            uid=f"uid-{start.name}",
            role=start.role,
            index=start.index,
            attempt=attempt,
            phase=PodPhase.RUNNING,
            ready=True,
            created_at=self.now,
            started_at=self.now,
            node="n",
        )
        if start.role is RoleName.ROLLOUT:
            self.servers_ready_at = max(
                self.servers_ready_at, self.now + self.costs.post + self.costs.server_start
            )

    def _begin(self, attempt: int, life: int) -> None:
        """All ranks have met."""
        if life != self._life:
            return
        self.board = ProgressBoard(self._run(attempt), clock=lambda: self.now)
        self._go_on(self._training(self.board), life)

    def _go_on(self, training: Iterator[float], life: int) -> None:
        """To the trainer's next change of phase. The operator looks once a step: of what is between the trainer's own
        account tells, to the second."""
        if life != self._life:
            return
        seconds = next(training)
        told = self._told()
        if told is None or told.phase not in BETWEEN:
            self._pass()
        self._at(self.now + seconds, lambda: self._go_on(training, life))

    def _training(self, board: ProgressBoard) -> Iterator[float]:
        """The trainer's loop: what it does, and how long that takes."""
        costs = self.costs
        with board.phase(TrainPhase.LOAD):
            yield costs.load
        step = self.saved
        board.resume(self._plan(step))
        with board.phase(TrainPhase.WAIT):
            yield max(0.0, self.servers_ready_at - self.now)
        with board.phase(TrainPhase.SYNC):
            yield costs.sync
        saving_until = 0.0
        while True:
            with board.phase(TrainPhase.GENERATE):
                yield self._generate(board, step)
            with board.phase(TrainPhase.TRAIN):
                yield costs.train
            step += 1
            self.finished = max(self.finished, step)
            board.finish_step(step, {"step_seconds": costs.generate + costs.train})
            with board.phase(TrainPhase.SYNC):
                yield costs.sync
            with board.phase(TrainPhase.SAVE):
                yield costs.save_stall + max(0.0, saving_until - self.now)
            saving_until = self.now + costs.save
            self._save(step, saving_until)

    def _generate(self, board: ProgressBoard, step: int) -> float:
        """Seconds of it, with what is there already."""
        self.answering_since = step, self.now
        slower, self.slower = self.slower, 0.0
        if self.kept.step != step:
            return self.costs.generate + slower
        board.regain(1, self.kept.seconds)
        return self.costs.generate * (1 - self.kept.share) + slower

    def _keep(self) -> None:
        """The attempt is lost: what of the step in hand is on the volume. What was taken from there still is."""
        step, since = self.answering_since
        before = self.kept if self.kept.step == step else Kept()
        told = self._told()
        if (
            not self.costs.keeps_groups
            or told is None
            or told.phase not in (TrainPhase.GENERATE, TrainPhase.TRAIN)
        ):
            return
        seconds = min(self.now - since, self.costs.generate * (1 - before.share))
        share = seconds / self.costs.generate
        useful = seconds if told.phase is TrainPhase.TRAIN else seconds * min(1.0, before.share + share)
        self.kept = Kept(step, before.share + useful / self.costs.generate, before.seconds + useful)

    def _save(self, step: int, whole_at: float) -> None:
        life = self._life

        def whole() -> None:
            if life == self._life:
                self.saved = step

        self._at(whole_at, whole)

    def _fail(self) -> None:
        """A machine of the job fails; which one is drawn."""
        self._at(self.now + self.dice.expovariate(1 / self.costs.mtbf), self._fail)
        self.failures += 1
        pod = self.dice.choice(sorted(pod.name for pod in self.pods.values() if not pod.ended))
        role = self.pods[pod].role
        silent = self.costs.silent if self.dice.random() < self.costs.silent_share else 0.0
        if role is RoleName.TRAINER or not self.costs.keeps_servers:
            self._life += 1  # nothing of this attempt goes on
            self._keep()
        else:  # the others answer its prompts as well
            self.slower += self.costs.generate / self.job.spec.rollout.replicas
        self._at(self.now + self.costs.notice + silent, lambda: self._end(role, pod))

    def _end(self, role: RoleName, name: str) -> None:
        """The operator sees what is left of it."""
        alone = role is RoleName.ROLLOUT and self.costs.keeps_servers
        for pod in list(self.pods.values()):
            if pod.name == name or not (alone or (pod.role is RoleName.ROLLOUT and self.costs.keeps_servers)):
                self.pods[pod.name] = replace(
                    pod, phase=PodPhase.FAILED, ready=False, exit_code=1, finished_at=self.now
                )
        self._pass()

    def _plan(self, step: int) -> ResumePlan:
        resumed = Resumed(
            from_step=step, lost_steps=self.finished - step, exactness=Exactness.EXACT, reason=""
        )
        return ResumePlan(step, None, True, True, resumed.exactness, "", lost_steps=resumed.lost_steps)

    def _run(self, attempt: int) -> Run:
        return Run(
            name=self.job.metadata.name,
            namespace="",
            uid="",
            attempt=attempt,
            token=f"{attempt}",
            spec=self.job.spec,
            paths=Paths(storage="/", cache="/"),
            master_addr="",
            master_port=0,
            progress_port=0,
            rollout_hosts=[],
            rollout_port=0,
        )
