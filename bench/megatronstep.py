"""A whole step of the loop on Megatron over the work that no loop can avoid: what `bench.step` measures."""

from __future__ import annotations

import os
from pathlib import Path

from bench.convert import CACHE_ENV, convert_in_a_process
from bench.job import job
from bench.model import Shape, make_qwen3
from bench.result import Check, Facts, Result, at_most
from bench.rounds import ROUNDS, Seconds, ratio
from bench.step import STEPS, turns
from rljob_api.base import Manifest

SHAPE = Shape(hidden=512, layers=4, vocabulary=4096)
LAYOUTS: dict[str, Manifest] = {"data 2": {}, "tensor 2": {"tensor": 2}}
TARGET = 1.2


def measure(folder: Path) -> Result:
    parameters = make_qwen3(folder / "model", SHAPE)
    os.environ[CACHE_ENV] = str(folder / "conversions")
    checks: list[Check] = []
    seconds: Seconds = {}
    facts: Facts = {"parameters": parameters, "samples": STEPS.samples, "tokens_each": STEPS.tokens}
    for name, parallelism in LAYOUTS.items():
        run = job(folder, STEPS, backend="megatron", parallelism=parallelism)
        convert_in_a_process(run, folder, folder / "conversions")
        own_seconds, own_facts = turns(run, folder, ROUNDS)
        checks.append(at_most(f"step over its floor, {name}", ratio(own_seconds, "step", "floor"), TARGET))
        seconds |= {f"{name}: {what}": values for what, values in own_seconds.items()}
        facts |= {f"{name}: {what}": value for what, value in own_facts.items()}
    return Result(
        name="megatronstep",
        checks=checks,
        seconds=seconds,
        facts=facts,
        comment="As `step`, with the same floor: two engines without a server, then two processes with a whole model of"
        " transformers each. Over it: the optimizer and its gradients' sums, the sync, and HTTP; with tensor 2 the sums"
        " over ranks of all hidden states, two in each layer and direction, through loopback: those of a step, 420 MB,"
        " took 0.45 and 0.58 s here by themselves, without which tensor 2 would be at 1.19.",
    )
