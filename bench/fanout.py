"""From `kubectl apply` to all pods posted, over a bare loop that posts the same pods to the same API server.

Beside them two others that do the same: kopf's own handlers, and JobSet's controller with the one of Kubernetes' Jobs.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bench.controllers import jobset, jobset_job, kopf_handlers, kopf_job, remove_jobset
from bench.operators import Field, rss_mib
from bench.result import Result, at_least, at_most
from bench.rounds import ratio, take_turns
from rljob_operator.cluster.resources import JOBS, PODS

LANES = 32
SMALL, LARGE = 64, 1000
STRIPPED = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "ownerReferences")


def measure(folder: Path) -> Result:
    with Field.prepared(folder) as field, ExitStack() as others:
        operator = field.operator()
        asyncio.run(_ours(field, "first", SMALL))
        others.enter_context(kopf_handlers(field))
        others.enter_context(jobset(field))
        small = take_turns(_candidates(field, SMALL))
        large = take_turns(_candidates(field, LARGE), rounds=3, warm_up=0)
        memory = rss_mib(operator.process.pid)
    pods_per_second = {name: LARGE / median(took) for name, took in large.items()}
    return Result(
        name="fanout",
        checks=[
            at_most(
                f"create → all {SMALL} pods posted, over the floor",
                ratio(small, "operator", "bare loop"),
                1.3,
            ),
            at_least(
                f"pods per second of a job of {LARGE}, over the floor",
                pods_per_second["operator"] / pods_per_second["bare loop"],
                0.75,
            ),
        ],
        seconds={f"{name}, {SMALL} pods": took for name, took in small.items()}
        | {f"{name}, {LARGE} pods": took for name, took in large.items()},
        facts={
            **{f"pods per second, {name}": round(value) for name, value in pods_per_second.items()},
            "RSS of the operator afterwards, MiB": round(memory),
        },
        comment="From the request that creates the job to the event of its last pod, as a watch hears of it. The floor"
        f" posts the pods that the operator made, {LANES} at a time, by aiohttp over the same TLS; it knows them"
        " beforehand and writes nothing else. kopf's handler posts as the floor does. JobSet makes two Jobs, whose pods"
        " Kubernetes' own controller makes; neither limits its requests. API server, etcd, controllers and the bench"
        " share the machine's cores.",
    )


def _candidates(field: Field, pods: int) -> dict[str, Any]:
    numbers = iter(range(10**6))
    return {
        "operator": lambda: asyncio.run(_ours(field, f"ours-{pods}-{next(numbers)}", pods)),
        "bare loop": lambda: asyncio.run(_floor(field, pods)),
        "kopf": lambda: asyncio.run(_kopf(field, f"kopf-{pods}-{next(numbers)}", pods)),
        "JobSet": lambda: asyncio.run(_jobset(field, f"jobset-{pods}-{next(numbers)}", pods)),
    }


async def _ours(field: Field, name: str, pods: int) -> float:
    took = await _applied(field, name, pods, JOBS.path(field.namespace), field.of_nodes(name, pods))
    field.sample = field.pods_of(name)
    field.remove(name)
    return took


async def _kopf(field: Field, name: str, pods: int) -> float:
    took = await _applied(field, name, pods, *kopf_job(field, name, pods))
    field.remove(name)
    return took


async def _jobset(field: Field, name: str, pods: int) -> float:
    took = await _applied(field, name, pods, *jobset_job(field, name, pods))
    remove_jobset(field, name)
    return took


async def _applied(field: Field, name: str, pods: int, path: str, body: dict[str, Any]) -> float:
    """Seconds from the request to the event of the last pod."""
    async with field.session() as session:
        listening = await _listen(session, field, name, pods)
        began = time.perf_counter()
        async with session.post(field.url(path), json=body) as answer:
            assert answer.status == 201, await answer.text()
        return await listening - began


async def _floor(field: Field, pods: int) -> float:
    """Posts the pods that the operator made just before, under another job's name."""
    bodies = [_bare(pod) for pod in field.sample[:pods]]
    async with field.session() as session:
        listening = await _listen(session, field, "floor", pods)
        began = time.perf_counter()
        waiting = iter(bodies)
        await asyncio.gather(*(_lane(session, field, waiting) for _ in range(LANES)))
        took = await listening - began
    field.remove("floor")
    return took


async def _lane(session: aiohttp.ClientSession, field: Field, waiting: Any) -> None:
    for body in waiting:
        async with session.post(field.url(PODS.path(field.namespace)), data=json.dumps(body)) as answer:
            assert answer.status == 201, await answer.text()
            json.loads(await answer.read())


async def _listen(session: aiohttp.ClientSession, field: Field, job: str, pods: int) -> asyncio.Task[float]:
    """When the last pod of a job was heard of; the watch is open when this returns."""
    listed = await session.get(field.url(PODS.path(field.namespace)))
    version = (await listed.json())["metadata"]["resourceVersion"]
    params = {"watch": "1", "resourceVersion": version, "labelSelector": f"rljob.io/name={job}"}
    stream = await session.get(field.url(PODS.path(field.namespace)), params=params)

    async def heard() -> float:
        found, added = 0, b'"type":"ADDED"'
        async for chunk in stream.content.iter_any():
            found += chunk.count(added)
            if found >= pods:
                break
        stream.close()
        return time.perf_counter()

    return asyncio.create_task(heard())


def _bare(pod: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in pod["metadata"].items() if key not in STRIPPED}
    metadata["name"] = f"floor-{metadata['name']}"
    metadata["labels"] = {**metadata["labels"], "rljob.io/name": "floor"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}
