"""The step `convert` as a process of its own that tests hold, kill and listen to."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from pids import children
from rljob_api.progress import LastWords
from rljob_api.run import Run
from trainer.checkpoints import a_run
from trainer.ranks import REPOSITORY, context, run_ranks
from waiting import DEADLINE_SECONDS, until

SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "head_dim": 8, "vocab_size": 67}
LOGGING_LEVEL = 35
"""Of Megatron's own loggers: one that nothing else sets."""


def conversion_run(folder: Path, model: Path, ranks: int = 2, stall_seconds: int = 600, **cut: int) -> Run:
    """A run on the megatron backend with `model`; it knows no port. `cut` goes to `parallelism`."""
    return a_run(
        folder,
        backend="megatron",
        megatron={"loggingLevel": LOGGING_LEVEL},
        model={"source": str(model)},
        trainer={"numProcPerNode": ranks},
        parallelism=cut,
        stall={"phaseTimeoutSeconds": {"convert": stall_seconds}},
    )


@dataclass
class Step:
    """One process that converts. `gate` holds it before it reads its first weight, until the file is there."""

    folder: Path
    run: Run
    name: str = "first"
    gate: Path | None = None
    absent_rank: int | None = None
    """This one never joins the others."""
    spied_on: bool = False
    """Its log says what Megatron and torch were called with."""
    free_bytes: int | None = None
    """What the file system says; None for the truth."""
    locks: bool = True
    """Whether the file system has any."""
    process: ForkServerProcess | None = None

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def start(self) -> Step:
        self.process = context().Process(target=_step, args=(self.settings(),))
        self.process.start()
        return self

    def settings(self) -> dict[str, Any]:
        return {
            "run": self.run.model_dump_json(by_alias=True),
            "folder": str(self.folder),
            "name": self.name,
            "gate": str(self.gate) if self.gate else None,
            "absent": self.absent_rank,
            "free": self.free_bytes,
            "locks": self.locks,
            "spied on": self.spied_on,
        }

    @property
    def pid(self) -> int:
        assert self.process is not None
        assert self.process.pid is not None
        return self.process.pid

    def said(self) -> str:
        log = self.folder / f"{self.name}.log"
        return log.read_text() if log.exists() else ""

    def says(self, words: str) -> None:
        until(
            lambda: words in self.said(),
            lambda: f"{self.name} says {words!r}: {self.said()}",
            DEADLINE_SECONDS,
        )

    def ranks(self) -> list[int]:
        """Process ids, once both ranks are forked."""
        world = self.run.spec.trainer.ranks_per_node

        def forked() -> list[int]:
            found = children(self.pid)
            return found if len(found) == world else []

        return until(forked, "the ranks are forked", DEADLINE_SECONDS)

    def reading(self) -> list[int]:
        """Process ids of the ranks, once each stands at the gate."""
        ranks = self.ranks()
        until(
            lambda: self.said().count("at the gate") >= len(ranks),
            lambda: f"all ranks are at the gate: {self.said()}",
            DEADLINE_SECONDS,
        )
        return ranks

    def end(self) -> int:
        """The exit code: negative for a signal."""
        assert self.process is not None
        self.process.join(DEADLINE_SECONDS)
        assert self.process.exitcode is not None, f"{self.name} has not ended: {self.said()}"
        return self.process.exitcode

    def words(self) -> LastWords:
        return LastWords.model_validate_json((self.folder / f"{self.name}.words").read_text())

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pid, number)


@contextmanager
def ended(*steps: Step) -> Iterator[None]:
    """None of them outlives the test."""
    try:
        yield
    finally:
        for step in steps:
            if step.process is not None:
                step.process.kill()
                step.process.join()


def growth(act: Callable[[], object]) -> int:
    """Bytes by which this process's resident memory was at its peak above where it began, mapped files included."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status_bytes("VmRSS")
    act()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def largest_layer(model: Path) -> int:
    """Bytes of one layer's tensors."""
    return sum(t.nbytes for name, t in hf_tensors(model).items() if name.startswith("model.layers.0."))


def entries(cache: Path) -> list[Path]:
    """Published conversions."""
    return sorted(path for path in cache.glob("*") if not path.name.startswith("."))


def drafts(cache: Path) -> list[Path]:
    return sorted(cache.glob(".*.tmp"))


def hf_tensors(model: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: tensor for file in model.glob("*.safetensors") for name, tensor in load_file(file).items()}


def converted_tensors(entry: Path, model: Path) -> dict[str, Tensor]:
    """A conversion, back in Hugging Face's names and shapes."""
    from rljob_trainer.backend.megatron.architecture import read_architecture
    from rljob_trainer.backend.megatron.saved import hf_weights
    from rljob_trainer.checkpoint.export import tensors

    return dict(hf_weights(tensors(entry, lambda name: True), read_architecture(model)))


def differences(entry: Path, model: Path) -> list[str]:
    """Names that only one side has, or whose tensors differ in a bit."""
    back, original = converted_tensors(entry, model), hf_tensors(model)
    both = back.keys() & original.keys()
    return [
        *sorted(back.keys() ^ original.keys()),
        *sorted(name for name in both if not torch.equal(back[name], original[name])),
    ]


def assert_is_the_model(entry: Path, model: Path) -> None:
    """Bit for bit."""
    assert run_ranks(1, differences, entry, model) == [[]]


def _step(settings: dict[str, Any]) -> None:
    folder, name = Path(settings["folder"]), settings["name"]
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.path.append(REPOSITORY)
    os.environ |= {
        "NRL_MEGATRON_CHECKPOINT_DIR": str(folder / "cache"),
        "RLJOB_TERMINATION_LOG": str(folder / f"{name}.words"),
        "POD_NAME": name,
        "POD_IP": "127.0.0.1",
        "RLJOB_NODE_RANK": "0",
        "RLJOB_RUN_FILE": str(folder / f"{name}.json"),
    }
    (folder / f"{name}.json").write_text(settings["run"])
    _put_obstacles(settings)
    if settings["spied on"]:
        spy_on_calls()
    from rljob_trainer import pod

    sys.exit(pod.convert())


def spy_on_calls() -> None:
    """Every rank's calls, a line each on standard output."""
    import torch.distributed as dist
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing import state_dict_utils
    from megatron.core.dist_checkpointing.strategies.fully_parallel import FullyParallelSaveStrategyWrapper

    save, gather, init = (
        dist_checkpointing.save,
        state_dict_utils.determine_global_metadata,
        dist.init_process_group,
    )

    def spied_save(state: object, directory: str, strategy: object, **kwargs: object) -> object:
        parallel = isinstance(strategy, FullyParallelSaveStrategyWrapper)
        tell(f"save fully parallel {parallel}, validated {kwargs['validate_access_integrity']}")
        tell(f"megatron logs from {logging.getLogger('megatron').getEffectiveLevel()}")
        return save(state, directory, strategy, **kwargs)

    def spied_gather(*args: object) -> object:
        tell("gather metadata of all ranks")
        return gather(*args)

    def spied_init(*args: Any, **kwargs: Any) -> None:
        tell(f"group timeout {kwargs['timeout']}")
        init(*args, **kwargs)

    dist_checkpointing.save = spied_save
    state_dict_utils.determine_global_metadata = spied_gather
    dist.init_process_group = spied_init


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _put_obstacles(settings: dict[str, Any]) -> None:
    from rljob_trainer import locks
    from rljob_trainer.convert import cache, hf_source, world

    join, read = world._join, hf_source.HfSource.read

    def gated(self: hf_source.HfSource, name: str) -> Tensor:
        gate = settings["gate"]
        if gate and not Path(gate).exists():
            os.write(1, b"at the gate\n")
            until(Path(gate).exists, "the gate is open", DEADLINE_SECONDS)
        return read(self, name)

    def absent(rank: int, world: int, meeting: Path, timeout: timedelta | None) -> None:
        if rank == settings["absent"]:
            signal.pause()
        join(rank, world, meeting, timeout)

    if (free := settings["free"]) is not None:
        cache.shutil.disk_usage = lambda root: SimpleNamespace(free=free)  # type: ignore[attr-defined]  # its import
    if not settings["locks"]:
        locks._try_lock = lambda descriptor: locks.Hold.NONE
    hf_source.HfSource.read = gated  # type: ignore[method-assign]  # a real read behind a gate
    world._join = absent
