"""A conversion of a gigabyte by two ranks, over reading and writing the same bytes; and the memory that it takes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from bench.model import Shape, make_qwen3
from bench.result import Result, at_most
from bench.rounds import Seconds, ratio, take_turns, timed
from rljob_api.manifest import FileEntry
from rljob_api.run import Run
from trainer.converting import conversion_run, growth, largest_layer
from trainer.ranks import run_ranks

RANKS = 2
SHAPE = Shape(hidden=1536, layers=9, vocabulary=16384)
TARGET = 1.5
CHUNK = 16 << 20
CACHE_ENV = "NRL_MEGATRON_CHECKPOINT_DIR"
PATIENCE = timedelta(minutes=10)


def measure(folder: Path) -> Result:
    parameters = make_qwen3(folder / "model", SHAPE)
    size = 4 * parameters
    ((seconds, grown),) = run_ranks(1, in_a_warm_process, folder, size, deadline=900)
    allowed = size / RANKS + largest_layer(folder / "model")
    return Result(
        name="convert",
        checks=[
            at_most(
                "conversion over its floor, both by 2 ranks", ratio(seconds, "conversion", "floor"), TARGET
            ),
            at_most("memory of a rank over model / ranks + a layer", max(grown) / allowed, 1.0),
        ],
        seconds=seconds | {"the whole step as a process, imports included": [whole_step(folder)]},
        facts={
            "parameters": parameters,
            "model_mb": round(size / 1e6, 1),
            "peak_growth_of_a_rank_mb": round(max(grown) / 1e6, 1),
            "allowed_mb": round(allowed / 1e6, 1),
        },
        comment="What `rljob_trainer convert` does once it has imported torch and Megatron: ranks forked and met, the"
        " model streamed into Megatron's format, hashed, flushed, described and renamed. The floor: two threads that"
        " read the model's file and write its bytes to two new files, flushed; nothing is hashed. Over it: the"
        " checksums by which a damaged entry is found, which the row `sha256` shows alone, and forking ranks that meet."
        " Memory is what a rank's resident memory rose by at its highest, mapped files included.",
    )


def in_a_warm_process(folder: Path, size: int) -> tuple[Seconds, list[int]]:
    """Seconds, and the growth of each rank's memory in each round."""
    import torch.distributed as dist

    dist.destroy_process_group()  # a conversion makes its own
    grown: list[int] = []
    seconds = take_turns(
        {
            "conversion": lambda: convert(folder, size, grown),
            "floor": lambda: timed(lambda: copy(folder / "model" / "model.safetensors", folder / "floor")),
            "sha256 of the same bytes": lambda: timed(lambda: checksums(folder)),
        }
    )
    dist.init_process_group("gloo")  # the harness ends the one it made
    return seconds, grown


def convert(folder: Path, size: int, grown: list[int]) -> float:
    """Seconds, as the step does it, into a cache that is empty each time: emptying it is no part of it."""
    from rljob_trainer.convert.cache import Entry
    from rljob_trainer.convert.identity import Identity
    from rljob_trainer.convert.work import rank_work
    from rljob_trainer.convert.world import Work, run_world

    shutil.rmtree(folder / "cache", ignore_errors=True)
    entry = Entry(folder / "cache", Identity("bench", "1"), "float32")

    def watched(work: Work) -> Work:
        def act(tell: Callable[[int, str], None]) -> list[FileEntry]:
            entries: list[FileEntry] = []
            peak = growth(lambda: entries.extend(work(tell)))
            (folder / f"growth-{os.getpid()}").write_text(str(peak))
            return entries

        return act

    def write(draft: Path, note: object) -> list[FileEntry]:
        return run_world(
            RANKS, watched(rank_work(folder / "model", draft, "float32")), lambda done: None, stall=PATIENCE
        )

    took = timed(lambda: entry.make(size, write, print, print))
    for report in folder.glob("growth-*"):
        grown.append(int(report.read_text()))
        report.unlink()
    return took


def copy(source: Path, target: Path) -> None:
    """The least that moving the bytes costs."""
    half = source.stat().st_size // 2
    with ThreadPoolExecutor(RANKS) as pool:
        list(pool.map(lambda n: _copy_half(source, Path(f"{target}-{n}"), n * half, half), range(RANKS)))


def _copy_half(source: Path, target: Path, start: int, length: int) -> None:
    buffer = bytearray(CHUNK)
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        reader.seek(start)
        while length > 0 and (count := reader.readinto(memoryview(buffer)[: min(CHUNK, length)])):
            writer.write(memoryview(buffer)[:count])
            length -= count
        os.fsync(writer.fileno())


def checksums(folder: Path) -> None:
    """Of what `copy` wrote."""
    with ThreadPoolExecutor(RANKS) as pool:
        list(pool.map(_checksum, [Path(f"{folder / 'floor'}-{n}") for n in range(RANKS)]))


def _checksum(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def whole_step(folder: Path) -> float:
    """Seconds of `python -m rljob_trainer convert`, as a pod runs it."""
    run = conversion_run(folder, folder / "model", RANKS)
    return timed(lambda: convert_in_a_process(run, folder, folder / "other-cache"))


def convert_in_a_process(run: Run, folder: Path, cache: Path) -> None:
    """The run's model, as its init container does it; what it writes to `folder` is for that process alone."""
    file = folder / "convert.json"
    file.write_text(run.model_dump_json(by_alias=True))
    own = {"RLJOB_RUN_FILE": str(file), "RLJOB_NODE_RANK": "0", "POD_IP": "127.0.0.1", CACHE_ENV: str(cache)}
    command = [sys.executable, "-m", "rljob_trainer", "convert"]
    subprocess.run(command, check=True, env={**os.environ, **own}, timeout=PATIENCE.total_seconds())
