"""A job that is killed again and again until it is complete, with warm ranks and real vLLM servers that stay."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from bench.blows import START, Blow, Kill
from bench.warm_pod import WarmPod
from e2e.volume import Volume
from rljob_api.job import JobSpec
from rljob_api.progress import Progress
from rljob_api.run import Paths, Run
from rljob_trainer.checkpoint.directory import Directory
from rljob_trainer.checkpoint.fence import fences
from rljob_trainer.checkpoint.past import read_note

POLL_SECONDS = 0.003
DEADLINE_SECONDS = 300.0
WHOLE_SECONDS = 900.0
"""A job that nothing interrupts."""
FAIR = {0, 137, 143, -signal.SIGKILL, -signal.SIGTERM}
"""Exit codes of a pod that was killed, or was complete before the blow fell."""
FOLLOWED = {1}
"""Of a conversion one of whose ranks was killed."""


class WrongError(AssertionError):
    """Something that must not happen: it goes into no record, and ends the run."""


def loopback_run(uid: str, net: int, spec: JobSpec, cache: Path) -> Run:
    """Of a trainer's pod and one server, each at an address of its own in 127.<net>."""
    return Run(
        name="addition",
        namespace="default",
        uid=uid,
        attempt=1,
        token="1-token",
        spec=spec,
        paths=Paths(storage=str(cache.parent), cache=str(cache)),
        master_addr=f"127.{net}.0.1",
        master_port=29400,
        progress_port=29401,
        rollout_hosts=[f"127.{net}.1.1"],
        rollout_port=8000,
    )


@dataclass
class Job:
    """One life: a job on a volume of its own."""

    run: Run
    folder: Path
    earlier: int = 0
    """Attempts of jobs before it at the same servers, which obey none with a lower number any more."""

    @property
    def directory(self) -> Directory:
        return Directory(self.folder / "storage")

    @property
    def volume(self) -> Volume:
        return Volume(self.folder / "storage")

    def attempts(self) -> int:
        """Of them the volume knows."""
        newest = fences(self.directory.attempts)[-1].attempt if self.directory.attempts.exists() else 0
        return max(newest - self.earlier, 0)

    def finished(self) -> int:
        """Last step that the newest attempt finished, or went on from."""
        if not self.attempts():
            return 0
        newest = fences(self.directory.attempts)[-1]
        note = read_note(self.directory.attempts / newest.file)
        return note.step if note else self.saved()

    def saved(self) -> int:
        """Step of the newest checkpoint."""
        return max(self.directory.steps(), default=0) if self.directory.checkpoints.exists() else 0

    def complete(self) -> bool:
        return (self.directory.export / "rljob_step.txt").exists()

    def straight(self) -> None:
        """Run it without any blow."""
        attempt = Attempt(self, 1)
        attempt.run_out()
        if not self.complete():
            raise WrongError(attempt.words())


class Attempt:
    """One attempt of a job: its containers, one after the other."""

    def __init__(self, job: Job, number: int) -> None:
        self.job, self.number = job, number
        self.saved_before = job.saved()
        token = f"{number}-token"
        paths = job.run.paths.model_copy(update={"storage": str(job.folder / "storage")})
        self.run = job.run.model_copy(update={"attempt": number, "token": token, "paths": paths})
        self.resumed = False
        self.hit = START
        converts = self.run.spec.chosen_backend == "megatron"
        self.pod = WarmPod.start(self.run, job.folder, "convert" if converts else "train")
        self.container = "convert" if converts else "train"

    def survive(self, blow: Blow) -> int | None:
        """The exit code after the blow; None if the attempt was complete before it came to that."""
        if not self._reach(blow):
            return None
        time.sleep(blow.late)
        told = self.progress()
        self.hit = self._phase(told)
        self._strike(blow)
        if blow.again is not None:
            time.sleep(blow.again)
            self._strike(blow)
        code = self.pod.wait(DEADLINE_SECONDS)
        allowed = FAIR | FOLLOWED if self.container == "convert" else FAIR
        if code not in allowed:
            raise WrongError(f"attempt {self.number} exited {code} after {blow}:\n{self.words()}")
        return code

    def run_out(self) -> None:
        """To its end."""
        deadline = time.monotonic() + WHOLE_SECONDS
        while self.going():
            if time.monotonic() > deadline:
                self.pod.kill()
                raise WrongError(f"attempt {self.number} did not end:\n{self.words()}")
            self.progress()
            time.sleep(0.05)

    def going(self) -> bool:
        """Whether a container runs; starts the next one."""
        if self.pod.alive:
            return True
        code = self.pod.wait(1)
        if code == 0 and self.container == "convert":
            self.container = "train"
            self.pod = WarmPod.start(self.run, self.job.folder, "train")
            return True
        if code:
            raise WrongError(f"attempt {self.number} exited {code} by itself:\n{self.words()}")
        return False

    def progress(self) -> Progress | None:
        """What rank 0 tells now. Raises `WrongError` if the attempt went on from elsewhere than the newest
        checkpoint, or not exactly."""
        try:
            with urlopen(
                f"http://{self.run.master_addr}:{self.run.progress_port}/progress", timeout=5
            ) as answer:
                told = Progress.model_validate_json(answer.read())
        except (OSError, HTTPException):
            return None
        if told.attempt != self.number:
            return None
        self._check(told)
        return told

    def words(self) -> str:
        """The last of what it said."""
        logs = [self.job.folder / f"{name}.log" for name in ("convert", "train")]
        return "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.exists())

    def _check(self, told: Progress) -> None:
        if self.resumed or told.resumed is None:
            return
        self.resumed = True
        found = (told.resumed.from_step, told.resumed.exactness.value)
        if found != (self.saved_before, "Exact"):
            raise WrongError(
                f"attempt {self.number} went on from {found}, not from {self.saved_before}: {told.resumed}"
            )

    def _reach(self, blow: Blow) -> bool:
        """Wait for the phase of the blow; False if the attempt was complete before."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        first = self.job.finished() if blow.steps else 0
        while self.going():
            if time.monotonic() > deadline:
                self.pod.kill()
                raise WrongError(f"attempt {self.number} did not come to {blow}:\n{self.words()}")
            told = self.progress()
            if self._phase(told) == blow.phase and (told is None or told.step >= first + blow.steps):
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _phase(self, told: Progress | None) -> str:
        """Until somebody tells, it is starting; later, whoever does not tell is still where he was."""
        if told is not None:
            self.hit = told.phase.value
        return self.hit

    def _strike(self, blow: Blow) -> None:
        number = signal.Signals[blow.how]
        if blow.target == "pod" and number is signal.SIGKILL:
            return self.pod.kill()
        ranks = self.pod.ranks()
        index = {"rank 0": 0, "rank 1": 1, "pod": 2}[blow.target]
        with suppress(ProcessLookupError):
            os.kill(ranks[index] if index < len(ranks) else self.pod.pid, number)
        return None


def killed(job: Job, number: int, life: int, blow: Blow) -> Kill | None:
    """One attempt with its blow; None if it was complete before. Raises `WrongError`."""
    attempt = Attempt(job, job.earlier + job.attempts() + 1)
    try:
        code = attempt.survive(blow)
    finally:
        attempt.pod.kill()
    if code is None:
        return None
    return Kill(
        number=number,
        life=life,
        attempt=attempt.number,
        blow=blow,
        hit=attempt.hit,
        exit_code=code,
        finished=job.finished(),
        saved=job.saved(),
    )
