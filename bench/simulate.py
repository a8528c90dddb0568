"""What a thousand GPUs would lose to failures: a simulation with measured costs, not a measurement.

The operator's decisions and its account of time are the real ones; machines, and how long things take on them, are
played. Costs that were measured on a small machine are taken over as ratios to a floor, as the results beside this say;
what the floor is at that size is an assumption, and is listed. Failures come as dice have it, so several lives are
played, and their mean is what counts.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from bench.result import RESULTS, Check, Facts, Result, at_least, at_most
from bench.simulated import GPUS_PER_NODE, Costs, World
from builders import a_job
from rljob_api.base import Manifest
from rljob_api.goodput import Goodput
from rljob_api.job import RLJob
from rljob_operator.decide.silence import OVERDUE_SECONDS

DAYS = 3.0
SEEDS, SEEDS_OF_OTHERS = range(20), range(3)
"""Of the lives that are played as assumed, and as it would be otherwise."""
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
    unready_seconds: float = 50.0
    """Kubernetes' own: until it calls a silent node unreachable."""
    tolerated_seconds: float = 300.0
    """Its own too: until it tells the pods of such a node to go."""
    removed_seconds: float = 300.0
    """Until somebody, or a repair of nodes, deletes or taints it once the job says `NodeLost`."""


def silent(size: Size, job: RLJob) -> float:
    """Seconds that a gang stands still for a silent node: until it is gone, two attempts might write."""
    lost = job.spec.checkpoint.on_preemption.grace_period_seconds + OVERDUE_SECONDS
    return size.unready_seconds + size.tolerated_seconds + lost + size.removed_seconds


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
        silent=silent(size, large_job()),
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


@dataclass(frozen=True)
class Life:
    """What came of one."""

    percent: float
    shares: dict[str, float]
    missing: int
    """Tenths of a percent by which the parts miss all of it."""
    failures: int
    restarts: int
    steps: int


def lived(costs: Costs, seed: int) -> Life:
    logging.disable(logging.CRITICAL)  # a restart is no news here
    goodput, world = played(costs, seed=seed)
    return Life(
        percent=float(goodput.percent),
        shares={name: float(value) for name, value in goodput.shares},
        missing=abs(total(goodput) - 1000),
        failures=world.failures,
        restarts=world.job.status.restarts if world.job.status else 0,
        steps=world.finished,
    )


def measure(scratch: Path) -> Result:
    size, taken = Size(), measured()
    base = costs(size, taken)
    others = {
        "MTBF 1 h": replace(base, mtbf=3600.0),
        "MTBF 12 h": replace(base, mtbf=12 * 3600.0),
        "MTBF 3 h, no node is silent": replace(base, silent_share=0.0),
        "MTBF 3 h, nothing is kept of the step in hand": replace(base, keeps_groups=False),
        "MTBF 3 h, every failure restarts the servers too": replace(base, keeps_servers=False),
        "MTBF 3 h, steps of half the length": replace(base, generate=base.generate / 2, train=base.train / 2),
    }
    with ProcessPoolExecutor() as pool:
        of_base = [pool.submit(lived, base, seed) for seed in SEEDS]
        of_others = {
            name: [pool.submit(lived, one, seed) for seed in SEEDS_OF_OTHERS] for name, one in others.items()
        }
        lives = [life.result() for life in of_base]
        found = {name: mean(life.result().percent for life in some) for name, some in of_others.items()}
    percents = [life.percent for life in lives]
    return Result(
        "simulate",
        [
            at_least("percent of goodput, simulated: 1000 GPUs, MTBF 3 h", fmean(percents), TARGET),
            _summed(lives),
        ],
        facts={
            "this is": "a simulation",
            "lives": len(lives),
            "days of each": DAYS,
            "percent of goodput, standard deviation of a life": round(stdev(percents), 3),
            "percent of goodput, standard error of the mean": round(stdev(percents) / len(lives) ** 0.5, 3),
            "percent of goodput, worst life": min(percents),
            "percent of goodput, best life": max(percents),
            "percent of goodput, each life": ", ".join(map(str, percents)),
            "failures": sum(life.failures for life in lives),
            "restarts of the trainers": sum(life.restarts for life in lives),
            "steps": sum(life.steps for life in lives),
            **{
                f"percent {name}": mean(life.shares[name] for life in lives)
                for name in lives[0].shares
                if name != "productive"
            },
            "lives of each that follows": len(SEEDS_OF_OTHERS),
            **{f"percent of goodput, {name}": percent for name, percent in found.items()},
            **{f"measured: {name}": value for name, value in taken.items()},
            **{f"assumed: {name.replace('_', ' ')}": value for name, value in vars(size).items()},
            **{f"cost: {name.replace('_', ' ')}": round(value, 3) for name, value in vars(base).items()},
        },
        comment=" ".join((__doc__ or "").split())
        + f" {TRAINER_NODES} nodes of trainers and {SERVERS} servers of {GPUS_PER_NODE} GPUs each; each failure hits"
        " one of them, a twentieth of them silently. The gang of a silent node restarts when that is deleted or"
        " tainted, which takes a quarter of an hour. Where the target is missed, it is by what failures take in any"
        " case, the update of the step in hand and the restart, and by nodes that fall silent: without those, lives"
        " reach it.",
    )


def mean(percents: Iterable[float]) -> float:
    return round(fmean(percents), 2)


def _summed(lives: list[Life]) -> Check:
    missing = max(life.missing for life in lives)
    return at_most("tenths of a percent by which the parts miss 100 %", missing, 0)


def total(goodput: Goodput) -> int:
    """Tenths of a percent, all uses together."""
    return sum(round(10 * float(value)) for _, value in goodput.shares)
