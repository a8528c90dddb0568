"""The simulation of a large job, on a small one: its account is whole, and worse machines make it worse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.result import Facts
from bench.simulate import POSTED, RESTARTED, STALLS, Size, costs, played, total
from bench.simulated import Costs
from builders import a_job
from rljob_api.job import RLJob

MEASURED: Facts = {
    "sync over its allowance": 1.0,
    "save over its floor": 1.0,
    STALLS: 0.1,
    RESTARTED: 1.0,
    POSTED: 1.0,
}
DAYS = 1.5


@pytest.fixture(scope="module")
def base() -> Costs:
    return replace(costs(Size(), MEASURED), silent_share=0.0)


def small() -> RLJob:
    return a_job(
        trainer={"numNodes": 3, "gpusPerNode": 8},
        rollout={"replicas": 1, "tensorParallel": 8},
        algorithm={"grpo": {"maxSteps": 1_000_000, "promptsPerStep": 24}},
        checkpoint={"savePeriod": 1, "asyncSave": True},
        failurePolicy={"maxRestarts": 10_000},
    )


def productive(costs: Costs) -> float:
    goodput, world = played(costs, DAYS, job=small())
    assert total(goodput) == 1000, goodput.shares
    assert world.failures > 0
    return float(goodput.percent)


def test_parts_add_up_and_each_thing_that_is_worse_costs_goodput(base: Costs) -> None:
    best = productive(base)
    assert 95 < best < 100
    worse = {
        "failures three times as often": replace(base, mtbf=base.mtbf / 3),
        "a start that takes long": replace(base, start=10 * base.start),
        "nothing is kept of a step": replace(base, keeps_groups=False),
        "servers restart with the trainers": replace(base, keeps_servers=False),
        "a save that training waits for": replace(base, save_stall=20.0),
    }
    assert {name: productive(one) < best for name, one in worse.items()} == dict.fromkeys(worse, True)
