"""What one job more costs the operator, in a fleet of 100 jobs and in one of thousands; kwok plays all kubelets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.fleet import submit
from bench.operators import Field
from bench.processor import processor_seconds
from bench.result import Facts, Result, at_most
from kube.fake_nodes import fake_nodes
from rljob_operator.cluster.resources import PODS

SIZES = (100, 1000, 5000)
MORE = 100
"""Jobs whose cost is measured at each size."""
LANES, FILLING_LANES = 16, 64
"""Requests at a time; most of a pod's time is spent waiting for kwok."""
LIMIT = 1.25
PATIENCE_SECONDS = 900
SETTLING_SECONDS, IDLE_SECONDS = 60, 60
"""Jobs whose trainers stay silent are said to start slowly half a minute after their pods: that is over by then."""


@dataclass(frozen=True)
class Cost:
    """Of one job, among so many, in processor milliseconds."""

    new: float
    """From its creation until its pods run."""
    standing: float
    """In a minute in which nothing happens to it."""


def measure(folder: Path) -> Result:
    with Field.prepared(folder) as field, fake_nodes(field.api, 20, folder / "kwok.log") as nodes:
        operator, known = field.leader(), 0
        costs = dict[int, Cost]()
        for size in SIZES:
            asyncio.run(_grow(field, range(known, size), nodes, FILLING_LANES))
            costs[size] = _cost(field, operator.process.pid, size, nodes)
            known = size + MORE
    few, many = costs[SIZES[0]], costs[SIZES[-1]]
    facts: Facts = {}
    for size, cost in costs.items():
        facts[f"milliseconds of a new job among {size}"] = round(cost.new, 2)
        facts[f"milliseconds a minute of a job that stands, among {size}"] = round(cost.standing, 2)
    among = f"among {SIZES[-1]} over one among {SIZES[0]}"
    return Result(
        name="flatness",
        checks=[
            at_most(f"cost of a new job {among}", many.new / few.new, LIMIT),
            at_most(f"cost of a standing job {among}", many.standing / few.standing, LIMIT),
        ],
        facts=facts,
        comment=f"Processor time of the operator, from the creation of {MORE} jobs until all their pods run, each a"
        " trainer and a server, less what the jobs that stand already take in that time: this is measured before, while"
        " nothing happens. Of those, rank 0 is asked for its progress every five seconds, less often if there are more"
        " than a thousand; kwok's pods answer nothing.",
    )


def _cost(field: Field, operator: int, size: int, nodes: list[str]) -> Cost:
    """Of each of `MORE` jobs that are created now."""
    time.sleep(SETTLING_SECONDS)
    began, before = time.monotonic(), processor_seconds(operator)
    time.sleep(IDLE_SECONDS)
    share = (processor_seconds(operator) - before) / (time.monotonic() - began)
    began, before = time.monotonic(), processor_seconds(operator)
    asyncio.run(_grow(field, range(size, size + MORE), nodes))
    taken = processor_seconds(operator) - before - share * (time.monotonic() - began)
    return Cost(new=1000 * taken / MORE, standing=60_000 * share / size)


async def _grow(field: Field, numbers: range, nodes: list[str], lanes: int = LANES) -> None:
    """Those jobs, until all their pods are placed and run."""
    async with field.session() as session:
        bodies = iter([field.body(f"job-{number}") for number in numbers])
        await asyncio.gather(*(submit(session, field, bodies) for _ in range(lanes)))
        pods = [f"job-{number}-{role}" for number in numbers for role in ("trainer-0-1", "rollout-0-0")]
        placing = iter(list(enumerate(pods)))
        await asyncio.gather(*(_place(session, field, placing, nodes) for _ in range(lanes)))


async def _place(
    session: aiohttp.ClientSession, field: Field, pods: Iterator[tuple[int, str]], nodes: list[str]
) -> None:
    """As a scheduler does, one after the other; then until each runs."""
    for number, pod in pods:
        target = {"kind": "Node", "name": nodes[number % len(nodes)]}
        body = {"metadata": {"name": pod}, "target": target}
        await _until(session, field.url(PODS.path(field.namespace, pod)), "Pending")
        async with session.post(field.url(PODS.path(field.namespace, pod, "binding")), json=body) as answer:
            assert answer.status == 201, await answer.text()
        await _until(session, field.url(PODS.path(field.namespace, pod)), "Running")


async def _until(session: aiohttp.ClientSession, url: str, phase: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        async with session.get(url) as answer:
            found = (await answer.json()).get("status")
        if isinstance(found, dict) and found.get("phase") == phase:
            return
        assert time.monotonic() < deadline, f"{url} is not {phase}: {found}"
        await asyncio.sleep(0.05)
