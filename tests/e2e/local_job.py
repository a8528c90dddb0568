"""A real `rljob run` under test: its processes, its progress and its volume, as somebody beside it sees them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import builders
from e2e.volume import Volume
from pids import age_order, all_pids, environment, is_forked, program
from rljob_api.job import RLJob
from rljob_api.progress import Progress
from rljob_api.status import Status
from waiting import until

PROGRESS_PORT = 29401
POLL_SECONDS = 0.01
RESTARTS = {"maxRestarts": 100, "backoffSeconds": {"initial": 0, "max": 0}}
"""Of a job that is killed often: each at once."""
WITHIN_S = 1200
"""On two idle cores nothing takes a tenth of it; beside a cluster that is busy on them it can take half."""


def addition(max_steps: int, **changes: Any) -> dict[str, Any]:
    """Two ranks and two servers; dropout draws from the random state at every step."""
    own: dict[str, Any] = {
        "dtensor": {"attentionDropout": 0.1},
        "rollout": builders.ONE_SERVER | {"replicas": 2},
        "checkpoint": {"savePeriod": 2},
        "failurePolicy": RESTARTS,
    }
    return builders.addition("addition", max_steps, **own | changes)


@dataclass
class LocalJob:
    """One job in its work directory; may be started, stopped and started again."""

    manifest: dict[str, Any]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)
    address: str = ""
    """Of the pod of rank 0, once it has answered: looking through all processes takes longer than a phase."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "rljob.log"

    @property
    def work_dir(self) -> Path:
        return self.folder / "work"

    @property
    def storage(self) -> Path:
        return self.work_dir / "storage"

    def start(self) -> LocalJob:
        path = self.folder / "job.yaml"
        path.write_text(json.dumps(self.manifest))
        command = [sys.executable, "-m", "rljob_cli", "run", str(path), "--work-dir", str(self.work_dir)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self._env)
        return self

    def replay(self, step: int, *words: str) -> dict[str, Any]:
        """What `rljob replay` finds, once the job is over."""
        command = [sys.executable, "-m", "rljob_cli", "replay", str(self.work_dir), "--step", str(step)]
        done = subprocess.run(
            [*command, "--output", "json", *words],
            capture_output=True,
            text=True,
            check=False,
            env=self._env,
            timeout=WITHIN_S,
        )
        assert done.returncode in {0, 1}, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (1 if told["difference"] else 0)
        return told

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, "NRL_MEGATRON_CHECKPOINT_DIR": str(self.folder / "conversions")}

    def finish(self, deadline: float = WITHIN_S) -> int:
        """Wait for the end; the exit code."""
        assert self.process is not None
        return self.process.wait(deadline)

    def stop(self) -> int:
        """As Ctrl-C does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.finish()

    def kill(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def status(self) -> Status | None:
        path = self.work_dir / "status.json"
        try:
            return Status.model_validate_json(path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def wait_for(self, what: Callable[[], bool], deadline: float = WITHIN_S) -> None:
        """Until `what()`; fails with the job's own words when it ends or does not come."""
        process = self.process
        assert process is not None

        def comes() -> bool:
            ended, came = process.poll() is not None, what()  # looked at last: it may be true by now
            assert came or not ended, f"rljob ended early:\n{self.words()}"
            return came

        until(comes, lambda: f"this did not come:\n{self.words()}", deadline, POLL_SECONDS)

    def words(self) -> str:
        """The last of what the job and its pods said."""
        logs = [
            self.log,
            *sorted((self.work_dir / "logs").glob("*"), key=lambda path: path.stat().st_mtime)[-3:],
        ]
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in logs)

    def pods(self) -> dict[str, list[int]]:
        """Pod name → its processes, the oldest first."""
        found: dict[str, list[int]] = {}
        for pid in all_pids():
            known = environment(pid)
            if known.get("RLJOB_RUN_FILE", "").startswith(str(self.work_dir)):
                found.setdefault(known.get("POD_NAME", ""), []).append(pid)
        return {name: sorted(pids, key=age_order) for name, pids in found.items()}

    def ranks(self) -> list[int]:
        """Processes of the training ranks, by rank: children of the pod's `rljob_trainer train`.

        Its oldest: it also forks one that writes to the volume, and ends at once.
        """
        pids = [pid for name, pids in self.pods().items() if "-trainer-" in name for pid in pids]
        trainer = RLJob.parse(self.manifest).spec.trainer
        return [pid for pid in pids if is_forked(pid)][: trainer.num_nodes * trainer.ranks_per_node]

    def servers(self) -> dict[int, int]:
        """Replica → process of its vLLM server."""
        found = {}
        for name, pids in self.pods().items():
            if "-rollout-" in name:
                servers = [pid for pid in pids if "api_server" in program(pid)]
                if servers:
                    found[int(name.split("-rollout-")[1].split("-")[0])] = servers[0]
        return found

    def progress(self) -> Progress | None:
        """What rank 0 tells now; None while nobody answers."""
        for address in [self.address] if self.address else self._addresses():
            try:
                with urllib.request.urlopen(
                    f"http://{address}:{PROGRESS_PORT}/progress", timeout=2
                ) as answer:
                    self.address = address
                    return Progress.model_validate_json(answer.read())
            except (OSError, HTTPException):
                self.address = ""
        return None

    def _addresses(self) -> set[str]:
        trainers = [pid for name, pids in self.pods().items() if "-trainer-" in name for pid in pids]
        return {address for pid in trainers if (address := environment(pid).get("POD_IP"))}

    @property
    def volume(self) -> Volume:
        """What it has left so far."""
        return Volume(self.storage)
