"""What a thousand GPUs would lose to failures: a simulation with measured costs, not a measurement.

The operator's decisions and its account of time are the real ones; machines, and how long things take on them, are
played. Costs that were measured on a small machine are taken over as ratios to a floor, as the results beside this say;
what the floor is at that size is an assumption, and is listed.
"""

from __future__ import annotations

import json
import logging
import random
from dataclasses import dataclass, replace
from pathlib import Path

from bench.result import RESULTS, Check, Facts, Result, at_least, at_most
from bench.simulated import GPUS_PER_NODE, Costs, World
from builders import a_job
from rljob_api.base import Manifest
from rljob_api.goodput import Goodput
from rljob_api.job import RLJob

DAYS = 14.0
TARGET = 98.0
TRAINER_NODES, SERVERS = 96, 29
POSTED = "create → all 1000 pods posted, seconds"
"""Taken for the post of the next attempt's pods, which are far fewer."""
STALLS = "an async save blocks training, over a sync save"
RESTARTED = "lost trainer pod → first step begins, over its floor"


@dataclass(frozen=True)
class Size:
    """What is assumed of the job and its machines, in units of SI."""

    parameters: float = 32e9
    checkpoint_bytes_per_parameter: float = 14.0
    """bfloat16 weights; float32 master weights and two moments of Adam."""
    storage_bytes_per_second: float = 50e9
    """All ranks together."""
    network_bytes_per_second: float = 100e9
    """Of one broadcast of all weights, to all servers."""
    generate_seconds: float = 330.0
    train_seconds: float = 210.0
    mtbf_seconds: float = 3 * 3600.0
    notice_seconds: float = 5.0
    start_seconds: float = 60.0
    """The floor of it: placement, processes, imports, communicators."""
    server_start_seconds: float = 180.0
    silent_share: float = 0.05
    silent_seconds: float = 90.0


def costs(size: Size, measured: Facts) -> Costs:
    """How long things take at that size, if what was measured here holds there."""
    checkpoint_seconds = size.parameters * size.checkpoint_bytes_per_parameter / size.storage_bytes_per_second
    save = float(measured["save over its floor"]) * checkpoint_seconds
    restart = float(measured[RESTARTED])
    return Costs(
        mtbf=size.mtbf_seconds,
        generate=size.generate_seconds,
        train=size.train_seconds,
        sync=0.1
        + 2
        * float(measured["sync over its allowance"])
        * 2
        * size.parameters
        / size.network_bytes_per_second,
        save_stall=float(measured[STALLS]) * save,
        save=save,
        load=restart * checkpoint_seconds,
        notice=size.notice_seconds,
        post=float(measured[POSTED]),
        start=restart * size.start_seconds,
        server_start=size.server_start_seconds,
        silent_share=size.silent_share,
        silent=size.silent_seconds,
    )


def measured() -> Facts:
    """Ratios and seconds from the results beside this."""
    posted = json.loads((RESULTS / "fanout.json").read_text())["seconds"]["operator, 1000 pods"]
    return {
        "sync over its allowance": max(_value("sync", "sync over its allowance")),
        "save over its floor": max(_value("save", "save over its floor")),
        STALLS: max(_value("asyncsave", STALLS)),
        RESTARTED: max(_value("recovery", RESTARTED)),
        POSTED: max(posted),
    }


def _value(name: str, what: str) -> list[float]:
    checks = json.loads((RESULTS / f"{name}.json").read_text())["checks"]
    return [check["value"] for check in checks if check["what"].startswith(what)]


def large_job() -> RLJob:
    own: Manifest = {
        "trainer": {"numNodes": TRAINER_NODES, "gpusPerNode": GPUS_PER_NODE},
        "rollout": {"replicas": SERVERS, "tensorParallel": GPUS_PER_NODE, "minReplicas": 1},
        "algorithm": {"grpo": {"maxSteps": 1_000_000, "promptsPerStep": 768}},
        "checkpoint": {"savePeriod": 1, "asyncSave": True},
        "failurePolicy": {"maxRestarts": 10_000},
    }
    return a_job(**own)


def played(
    costs: Costs, days: float = DAYS, seed: int = 0, job: RLJob | None = None
) -> tuple[Goodput, World]:
    """The status's account after that many days."""
    world = World(job or large_job(), costs, random.Random(seed))
    return world.run(days * 86_400), world


def measure(scratch: Path) -> Result:
    logging.disable(logging.CRITICAL)
    size, taken = Size(), measured()
    base = costs(size, taken)
    goodput, world = played(base)
    others = {
        "MTBF 1 h": replace(base, mtbf=3600.0),
        "MTBF 12 h": replace(base, mtbf=12 * 3600.0),
        "MTBF 3 h, nothing is kept of the step in hand": replace(base, keeps_groups=False),
        "MTBF 3 h, every failure restarts the servers too": replace(base, keeps_servers=False),
        "MTBF 3 h, steps of half the length": replace(base, generate=base.generate / 2, train=base.train / 2),
    }
    found = {name: played(one, DAYS / 2)[0] for name, one in others.items()}
    return Result(
        "simulate",
        [
            at_least("percent of goodput, simulated: 1000 GPUs, MTBF 3 h", float(goodput.percent), TARGET),
            _summed(goodput),
        ],
        facts={
            "this is": "a simulation",
            "days": DAYS,
            "failures": world.failures,
            "restarts of the trainers": world.job.status.restarts if world.job.status else 0,
            "steps": world.finished,
            **{f"percent {name}": float(value) for name, value in goodput.shares if name != "productive"},
            **{f"percent of goodput, {name}": float(one.percent) for name, one in found.items()},
            **{f"measured: {name}": value for name, value in taken.items()},
            **{f"assumed: {name.replace('_', ' ')}": value for name, value in vars(size).items()},
            **{f"cost: {name.replace('_', ' ')}": round(value, 3) for name, value in vars(base).items()},
        },
        comment=" ".join((__doc__ or "").split())
        + f" {TRAINER_NODES} nodes of trainers and {SERVERS} servers of {GPUS_PER_NODE} GPUs each; each failure hits"
        " one of them, a twentieth of them silently.",
    )


def _summed(goodput: Goodput) -> Check:
    return at_most("tenths of a percent by which the parts miss 100 %", abs(total(goodput) - 1000), 0)


def total(goodput: Goodput) -> int:
    """Tenths of a percent, all uses together."""
    return sum(round(10 * float(value)) for _, value in goodput.shares)
