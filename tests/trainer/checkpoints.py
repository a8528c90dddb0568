"""Small checkpoints for tests: a run, a backend that writes one file per rank, and ways to break things."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.checkpoint.state_dict_saver import save as save_state_dict

from builders import a_job
from rljob_api.manifest import FileEntry, Layout, ProcessVersions, Versions
from rljob_api.run import Paths, Run
from rljob_trainer.backend.protocol import Written
from rljob_trainer.checkpoint.basis import Basis
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.past import StepNotes, read_past
from rljob_trainer.checkpoint.save import Saved, Saver
from rljob_trainer.checkpoint.state import LoopState

VERSIONS = Versions(
    rljob="0.1.0",
    torch="2.13.0",
    transformers="5.19.0",
    device="cpu AVX512",
    trainer_image="rljob:1",
    code="sha256 a",
    packages="sha256 a",
    difference_among_ranks="none",
    trainer_environment={},
    rollout_environment={},
)

A_WORKER = ProcessVersions(
    rljob="0.1.0", torch="2.13.0", transformers="5.19.0", device="cpu AVX512", packages="sha256 b"
)
"""Of a rollout server."""
BESIDE = VERSIONS.model_copy(update={"rollout_servers": A_WORKER})
"""Of an attempt that has asked its servers."""


def layout(world: int = 1, **facts: Any) -> Layout:
    return Layout(backend="dtensor", world=world, data=world, **facts)


def a_run(storage: Path, attempt: int = 1, *, uid: str = "uid-1", token: str = "", **spec: Any) -> Run:
    return Run(
        name="demo",
        namespace="default",
        uid=uid,
        attempt=attempt,
        token=token or f"token-{attempt}",
        spec=a_job(**spec).spec,
        paths=Paths(storage=str(storage), cache=str(storage)),
        master_addr="127.0.0.1",
        master_port=0,
        progress_port=0,
        rollout_hosts=[],
        rollout_port=0,
    )


class FileBackend:
    """Saves `content` as one file per rank, and fails where a test says so."""

    def __init__(self, content: bytes = b"weights", before: Callable[[], object] = lambda: None) -> None:
        self.layout = layout(dist.get_world_size())
        self.content, self.before = content, before

    def save_checkpoint(self, directory: Path, *, optimizer: bool, rng: object, background: bool) -> Written:
        def write() -> list[FileEntry]:
            self.before()
            (directory / f"rank_{dist.get_rank()}.bin").write_bytes(self.content + str(rng).encode())
            return []

        if background:
            return write
        write()
        return list


def a_saver(run: Run, backend: FileBackend, storage: Storage | None = None) -> Saver:
    return Saver(run, storage or open_storage(run), backend, VERSIONS, None)  # type: ignore[arg-type]  # saves only


def alone() -> None:
    """A process group of one."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)


def save(
    run: Run,
    *steps: int,
    metrics: dict[str, float] | None = None,
    versions: Versions = VERSIONS,
    **backend: Any,
) -> list[Saved]:
    """Checkpoints of these steps, by a process group of one."""
    alone()
    saver = a_saver(run, FileBackend(**backend))
    saver.versions = versions
    return [saver.save(LoopState(step=step, metrics=metrics or {}), rng=step) for step in steps]


def finish(run: Run, *steps: int, world: int = 1, versions: Versions = VERSIONS) -> None:
    """Note these steps, as the attempt does that finishes them."""
    storage = open_storage(run)
    notes = StepNotes(storage, Basis.of(run.spec, layout(world), versions), read_past(storage).furthest)
    for step in steps:
        notes.finished(step)


def in_child(act: Callable[[], None]) -> int:
    """Run in a forked process; its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def save_model(run: Run, model: nn.Module, source: Path) -> Path:
    """A checkpoint of `model`, which came from the Hugging Face directory `source`, by a process group of one."""

    class Backend(FileBackend):
        def save_checkpoint(self, directory: Path, **_: object) -> Written:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
                save_state_dict({"model": model.state_dict()}, checkpoint_id=directory, no_dist=True)
            return list

    alone()
    saver = Saver(run, open_storage(run), Backend(), VERSIONS, source)  # type: ignore[arg-type]  # saves only
    return saver.save(LoopState(step=1), rng=0).path
