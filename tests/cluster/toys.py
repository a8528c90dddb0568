"""`toys`: starts jobs of toy pods on a local cluster and looks at them from outside, as a user would."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builders import JOB, manifest
from rljob_api.job import RLJob
from rljob_api.status import Status
from rljob_operator import names
from rljob_operator.cluster.addresses import addresses
from rljob_operator.cluster.workdir import WorkDir
from waiting import DEADLINE_SECONDS, until

QUICK = {"backoffSeconds": {"initial": 0, "max": 0}}


@dataclass
class Toys:
    """One job in one folder; `start` may be called again after its end, as the same command."""

    folder: Path
    job: RLJob = field(init=False)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def process(self) -> subprocess.Popen[str]:
        """The newest."""
        return self.processes[-1]

    @property
    def work_dir(self) -> WorkDir:
        return WorkDir(self.folder / "runs" / JOB)

    @property
    def storage(self) -> Path:
        return self.work_dir.storage

    def start(self, limit_bytes: int | None = None, **spec: Any) -> None:
        self.job = RLJob.parse(manifest(**{"failurePolicy": QUICK, **spec}))
        file = self.folder / "job.json"
        file.write_text(self.job.model_dump_json(by_alias=True))
        program = str(Path(__file__).with_name("toy_run.py"))
        self.processes.append(
            subprocess.Popen(
                [sys.executable, program, str(file), str(self.work_dir.path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=None if limit_bytes is None else partial(limit_files, limit_bytes),  # noqa: PLW1509 - no threads here
            )
        )

    def start_ready(self, **spec: Any) -> None:
        """Started, and every pod is ready."""
        self.start(**spec)
        self.wait(lambda now: now.trainer.ready_replicas == self.job.spec.trainer.num_nodes, "trainers ready")
        self.wait(lambda now: now.rollout.ready_replicas == self.job.spec.rollout.replicas, "rollouts ready")

    def tell(self, hostname: str, word: str) -> None:
        self.storage.mkdir(parents=True, exist_ok=True)
        (self.storage / f"{JOB}-{hostname}.do").write_text(word)

    def finish_a_step(self) -> None:
        step = self.status.progress.step
        (self.storage / "tick").write_text("")
        self.wait(lambda now: now.progress.step > step, "a step")

    def complete(self) -> int:
        """Let the trainers say that all steps ran; the exit code of the run."""
        for node in range(self.job.spec.trainer.num_nodes):
            self.tell(f"trainer-{node}", "complete")
        return self.end()[0]

    def end(self) -> tuple[int, str]:
        """Wait for the end: exit code, and the sentences of standard error."""
        _, said = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, said

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes:
            process.kill()
            process.communicate()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def status(self) -> Status:
        return self.work_dir.read_status() or Status()

    def wait(self, condition: Callable[[Status], bool], what: str) -> Status:
        def holding() -> list[Status]:
            now = self.status
            return [now] if condition(now) else []

        return until(holding, what, DEADLINE_SECONDS)[0]

    def pid(self, pod: str) -> int:
        path = self.storage / f"{JOB}-{pod}.pid"
        return int(until(lambda: path.exists() and path.read_text(), f"{pod} lives", DEADLINE_SECONDS))

    def control_token_of(self, pod: str) -> str:
        environment = Path("/proc", str(self.pid(pod)), "environ").read_text().split("\0")
        return dict(one.split("=", 1) for one in environment if one)[names.CONTROL_TOKEN_ENV]

    def pids(self) -> set[int]:
        """Of all pods that ever lived, and of what they forked."""
        return {int(path.read_text()) for end in ("pid", "hermit") for path in self.storage.glob(f"*.{end}")}

    def address(self, hostname: str) -> str:
        return addresses(self.job, self.work_dir.path)[f"{JOB}-{hostname}.{JOB}"]

    def log(self, pod: str) -> str:
        return (self.work_dir.logs / f"{JOB}-{pod}.log").read_text()

    def run_of_attempt(self, number: int) -> dict[str, Any]:
        text = (self.work_dir.config / f"{JOB}-run-{number}" / "run.json").read_text()
        found: dict[str, Any] = json.loads(text)
        return found


def limit_files(limit_bytes: int) -> None:
    """As a full disk: no file grows beyond."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[Toys]:
    job = Toys(tmp_path)
    yield job
    job.close()
