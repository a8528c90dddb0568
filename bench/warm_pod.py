"""A trainer's pod that starts in a second: its containers are forked from a process that has imported all of it.

What runs is the container's own code, `launch` and `run_step`; only the start of Python and the imports are left out.
Used by `kills` and `recovery`, which start hundreds of them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Literal

from pids import alive
from rljob_api.run import Run
from waiting import until

Container = Literal["convert", "train"]
PR_SET_PDEATHSIG = 1
MODULES = [
    "bench.warm_pod",
    "rljob_trainer.train",
    "rljob_trainer.launch",
    "rljob_trainer.stall.guard",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.qwen3.modeling_qwen3",
    "tensorboard.compat.proto.event_pb2",
]

CONVERSION = ["rljob_trainer.convert.step", "rljob_trainer.convert.work"]


def warm_up(backend: str) -> None:
    """From now on containers of this backend start warm. Once in a process: there is one parent of all of them."""
    own = [f"rljob_trainer.backend.{backend}.backend", *(CONVERSION if backend == "megatron" else [])]
    context().set_forkserver_preload([*MODULES, *own])


def context() -> ForkServerContext:
    return get_context("forkserver")


@dataclass
class WarmPod:
    """One container that runs, in a session of its own."""

    run: Run
    process: ForkServerProcess

    @classmethod
    def start(cls, run: Run, folder: Path, container: Container) -> WarmPod:
        """Its log goes to `folder`, and so does what it would keep in the pod's own file system."""
        process = context().Process(
            target=_live, args=(run.model_dump_json(by_alias=True), str(folder), container)
        )
        process.start()
        return cls(run, process)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal; None while it runs."""
        return self.process.exitcode

    def ranks(self) -> list[int]:
        """Their processes, by rank."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return sorted(int(pid) for pid in children.split())

    def kill(self) -> None:
        """All of it, at once: its node is lost. Once this returns its ports are free."""
        ranks = self.ranks()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.join()
        until(lambda: not any(alive(rank) for rank in ranks), "its ranks are gone")

    def wait(self, seconds: float) -> int:
        """Until it ended by itself; the exit code. Raises `TimeoutError`, and then nothing of it is left."""
        self.process.join(seconds)
        code = self.exit_code
        if code is None:
            self.kill()
            raise TimeoutError(f"attempt {self.run.attempt} did not end within {seconds:g} s")
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what outlived its parent, as the pod's guard does
        return code


def _live(run: str, folder: str, container: Container) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parsed = Run.model_validate_json(run)
    log = os.open(f"{folder}/{container}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {
        "POD_IP": parsed.master_addr,
        "GLOO_SOCKET_IFNAME": "lo",
        "RLJOB_TERMINATION_LOG": f"{folder}/termination-log",
        "TMPDIR": folder,
        "PYTHONHASHSEED": "0",
    }
    sys.path.append(folder)
    code = _contained(parsed, container)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _contained(run: Run, container: Container) -> int:
    if container == "convert":
        from rljob_trainer.convert.step import run_step

        return run_step(run, 0)
    from rljob_trainer.launch import launch

    return launch(run, 0)
