"""A weight sync from two tensor-parallel ranks of Megatron: what `bench.sync` measures, from the other backend."""

from __future__ import annotations

import os
from pathlib import Path

from bench.convert import CACHE_ENV, convert_in_a_process
from bench.model import make_qwen3
from bench.result import Result
from bench.rounds import Seconds
from bench.sync import SHAPE, check, large_enough, measure_layout, sync_run
from rljob_api.base import Manifest

RANKS = SERVERS = 2
LAYOUT = "tensor 2, 2 servers"
MEGATRON: Manifest = {"backend": "megatron", "parallelism": {"tensor": RANKS}}


def measure(folder: Path) -> Result:
    parameters = make_qwen3(folder / "model", SHAPE)
    size = 4 * parameters
    os.environ[CACHE_ENV] = str(folder / "conversions")
    convert_in_a_process(sync_run(folder, RANKS, SERVERS, **MEGATRON), folder, folder / "conversions")
    turns = measure_layout(folder, RANKS, SERVERS, size, **MEGATRON)
    seconds: Seconds = {f"{LAYOUT}: {what}": values for what, values in turns.items()}
    return Result(
        name="megatronsync",
        checks=[check(LAYOUT, seconds), large_enough(size)],
        seconds=seconds,
        facts={"parameters": parameters, "megabytes": round(size / 1e6, 1), "carrier": "gloo"},
        comment="As `sync`, whose target and broadcast these are; tensor ranks gather each matrix's halves, bucket by"
        " bucket, and rank 0 sends them under their Hugging Face names.",
    )
