"""A checkpoint of two FSDP2 ranks, through `Saver`, over writing, syncing and hashing the same bytes."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import torch.distributed as dist

from bench.gang import ranks_here, together
from bench.model import Shape, make_qwen3
from bench.result import Check, Result, at_least, at_most
from bench.rounds import ROUNDS, Seconds, ratio, take_turns
from rljob_api.job import JobSpec
from rljob_api.run import Run
from rljob_trainer.backend.dtensor.backend import DtensorBackend
from rljob_trainer.backend.protocol import Backend, Written
from rljob_trainer.checkpoint.directory import Storage, open_storage
from rljob_trainer.checkpoint.save import Saver
from rljob_trainer.checkpoint.state import LoopState
from rljob_trainer.checkpoint.versions import versions_here
from trainer.checkpoints import a_run
from trainer.ranks import run_ranks
from trainer.tiny import make_batch, make_spec, policy_loss

RANKS = 2
SHAPE = Shape(hidden=512, layers=6, vocabulary=8192)
TARGET, LEAST_MB = 1.5, 200.0


def measure(folder: Path) -> Result:
    parameters = make_qwen3(folder / "model", SHAPE)
    seconds, size = run_ranks(RANKS, on_rank, folder, deadline=300)[0]
    return Result(
        name="save",
        checks=[
            at_most("save over its floor, both on 2 ranks", ratio(seconds, "save", "floor"), TARGET),
            large_enough(size),
        ],
        seconds=seconds,
        facts={
            "parameters": parameters,
            "checkpoint_mb": round(size / 1e6, 1),
            "ratio_to_a_floor_on_one_process": round(ratio(seconds, "save", "floor of one process"), 3),
        },
        comment="`Saver.save` of the dtensor backend (model and AdamW state; written, verified, renamed, the oldest"
        " pruned) over `write + fsync + sha256` of the same bytes. In the floor that counts each rank writes and"
        " hashes its own half, both at once. Over it: `torch.distributed.checkpoint` packs each tensor in an archive"
        " of its own and gathers what each rank wrote (its seconds, with the writing, are given below), the oldest"
        " checkpoint is removed, and ranks meet six times so that they fail together. Under it: files are hashed while"
        " the disk already writes.",
    )


def large_enough(size: int) -> Check:
    return at_least("megabytes of the checkpoint", size / 1e6, LEAST_MB)


def on_rank(folder: Path) -> tuple[Seconds, int]:
    """Seconds, and the bytes of a checkpoint."""
    spec = make_spec(data=RANKS)
    run = a_run(folder / "storage").model_copy(update={"spec": spec})
    backend = TimedBackend(spec, folder / "model")
    batch = make_batch()
    backend.train_step(batch, policy_loss(batch), lambda: None)  # the optimizer has its state from now on
    saving = Saving(run, backend, folder)
    saving.save()
    shards = sorted((saving.newest / "state").glob("*.distcp"))
    mine = shards[dist.get_rank()].read_bytes()
    whole = b"".join(shard.read_bytes() for shard in shards) if dist.get_rank() == 0 else b""
    target = folder / f"floor-{dist.get_rank()}"
    seconds = take_turns(
        {
            "save": saving.save,
            "floor": lambda: together(saving.ranks, lambda: write_and_hash(target, mine)),
            "floor of one process": lambda: together(saving.ranks, lambda: write_and_hash(target, whole)),
        }
    )
    seconds["of the save, in torch.distributed.checkpoint"] = backend.writing[-ROUNDS:]
    return seconds, sum(path.stat().st_size for path in saving.newest.rglob("*") if path.is_file())


class TimedBackend(DtensorBackend):
    """Remembers how long its own part of a save took."""

    def __init__(self, spec: JobSpec, source: Path) -> None:
        super().__init__(spec, source)
        self.writing: list[float] = []

    def save_checkpoint(self, directory: Path, *, optimizer: bool, rng: object, background: bool) -> Written:
        started = time.monotonic()
        written = super().save_checkpoint(directory, optimizer=optimizer, rng=rng, background=background)
        self.writing.append(time.monotonic() - started)
        return written


class Saving:
    """Checkpoint after checkpoint of a run."""

    def __init__(self, run: Run, backend: Backend, folder: Path) -> None:
        self.ranks = ranks_here()
        self.ranks.on_leader(lambda: open_storage(run))
        self.storage, self.backend = Storage.of(run), backend
        self.saver = Saver(run, self.storage, backend, versions_here(run), folder / "model")
        self.step = 0

    @property
    def newest(self) -> Path:
        return self.storage.checkpoint(self.step)

    def save(self) -> float:
        self.step += 1
        return together(
            self.ranks, lambda: self.saver.save(LoopState(step=self.step), self.backend.rng_state())
        )

    def begin(self) -> float:
        """As `save`, in the background: seconds until training may go on."""
        self.step += 1
        return together(
            self.ranks, lambda: self.saver.begin(LoopState(step=self.step), self.backend.rng_state())
        )


def write_and_hash(path: Path, data: bytes) -> str:
    """The least that a durable, verifiable file costs."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()
