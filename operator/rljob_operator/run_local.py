"""The operator's loop for one job on this machine: passes over a local cluster until the job is over or is stopped."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from rljob_api.job import RLJob
from rljob_api.reasons import Reason
from rljob_api.run import Replay

from .cluster.local import LocalCluster
from .cluster.replay import ReplayCluster
from .cluster.workdir import UNUSABLE, WorkDir
from .decide import Decision, Goal
from .goodput import not_counted
from .reconcile import Pass, reconcile
from .settings import Settings

POLL_SECONDS = 1.0
"""Longest wait for an event: a job looks alive even when nothing changes."""
OVER = (Goal.COMPLETE, Goal.FAIL, Goal.SUSPENDED)


def _over(decision: Decision) -> bool:
    """Also when only a person can say how to go on: that one sits at the keyboard."""
    return decision.goal in OVER or decision.reason == Reason.EXACTNESS_UNMET


def _left_alone(job: RLJob) -> RLJob:
    """As it was found: nothing of it ran since its status was written, which is no part of its time."""
    if job.status is None or job.status.goodput is None:
        return job
    goodput = not_counted(job.status.goodput)
    return job.model_copy(update={"status": job.status.model_copy(update={"goodput": goodput})})


class LocalRun:
    """`show` is called after each pass, with the job as it was before, `say` with a sentence. A `replay` does steps of
    it again, and ends.

    One SIGINT or SIGTERM suspends the job, a second one kills it.
    """

    def __init__(
        self,
        job: RLJob,
        work_dir: WorkDir,
        *,
        cwd: Path,
        cache: Path,
        settings: Settings,
        show: Callable[[RLJob, Pass], None],
        say: Callable[[str], None],
        replay: Replay | None = None,
    ) -> None:
        self._work_dir = work_dir
        self._job = _left_alone(work_dir.identify(job, cwd))
        self._settings = settings
        self._show, self._say = show, say
        self._bears = False
        self._cluster = (
            ReplayCluster(replay, self._job, work_dir, cwd, cache)
            if replay
            else LocalCluster(self._job, work_dir, cwd, cache)
        )
        self.signals: list[int] = []
        """Those that came, in order."""

    def run(self) -> Pass:
        """Until the job is over; the last pass. No process of the job is left when this returns or raises."""
        before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            return self._passes()
        finally:
            self._cluster.kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _passes(self) -> Pass:
        while True:
            try:
                done = asyncio.run(reconcile(self._wanted(), self._cluster, self._settings, time.time()))
            except OSError as error:
                self._bear(error)
                continue
            self._relieved()
            self._show(self._job, done)
            self._job = self._job.model_copy(update={"status": done.status})
            if len(self.signals) > 1 or (_over(done.decision) and done.settled):
                return done
            if done.decision.begin is None:
                self._cluster.wait(self._patience(done))

    def _bear(self, error: OSError) -> None:
        """The pass is tried again while anything runs: to end that would cost steps. The next one finds what it did.

        Raises the error if nothing runs, or somebody waits for the end.
        """
        if error.errno not in UNUSABLE or self.signals or not self._cluster.runs():
            raise error
        if not self._bears:
            self._bears = True
            self._say(
                f"{self._work_dir.unusable(error)}. Until then training goes on, and nothing of it is noted."
            )
        self._cluster.wait(POLL_SECONDS)

    def _relieved(self) -> None:
        if self._bears:
            self._bears = False
            self._say(f"The work directory {self._work_dir.path} takes what is written again.")

    def _wanted(self) -> RLJob:
        """The job, suspended once a signal came."""
        if not self.signals:
            return self._job
        return self._job.model_copy(update={"spec": self._job.spec.model_copy(update={"suspend": True})})

    def _patience(self, done: Pass) -> float:
        wake_at = done.decision.wake_at
        return POLL_SECONDS if wake_at is None else min(POLL_SECONDS, max(0.0, wake_at - time.time()))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        self._cluster.nudge()
