"""What one job more costs the operator, in a fleet of 100 jobs and in one of thousands; kwok plays all kubelets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from bench.fleet import submit
from bench.operators import Field
from bench.processor import processor_seconds
from bench.result import Result, at_most
from kube.fake_nodes import fake_nodes
from rljob_operator.cluster.resources import PODS

SIZES = (100, 1000, 5000)
MORE = 100
"""Jobs whose cost is measured at each size."""
LANES, FILLING_LANES = 16, 64
"""Requests at a time; most of a pod's time is spent waiting for kwok."""
LIMIT = 1.25
PATIENCE_SECONDS = 900


def measure(folder: Path) -> Result:
    with Field.prepared(folder) as field, fake_nodes(field.api, 20, folder / "kwok.log") as nodes:
        operator = field.leader()
        costs = dict[int, float]()
        known = 0
        for size in SIZES:
            asyncio.run(_grow(field, range(known, size), nodes, FILLING_LANES))
            before = processor_seconds(operator.process.pid)
            asyncio.run(_grow(field, range(size, size + MORE), nodes))
            costs[size] = (processor_seconds(operator.process.pid) - before) / MORE
            known = size + MORE
    few, many = SIZES[0], SIZES[-1]
    return Result(
        name="flatness",
        checks=[at_most(f"cost of a job among {many} over one among {few}", costs[many] / costs[few], LIMIT)],
        facts={
            f"processor milliseconds of a job among {size}": round(1000 * cost, 2)
            for size, cost in costs.items()
        },
        comment=f"Processor seconds of the operator from the creation of {MORE} jobs until all their pods run, each a"
        " trainer and a server. What it spends meanwhile on those that run already is among it.",
    )


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
