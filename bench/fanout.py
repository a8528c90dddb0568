"""From `kubectl apply` to all pods posted, over a bare loop that posts the same pods to the same API server.

Beside them two others that do the same: kopf's own handlers, and JobSet's controller with the one of Kubernetes' Jobs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import aiohttp

from bench.controllers import FOREIGN, foreign, jobset, jobset_job, kopf_handlers, kopf_job, remove_jobset
from bench.memory import rss_mib
from bench.operators import Field
from bench.processor import wait_for_quiet
from bench.result import Result, at_least, at_most
from bench.rounds import FEWER_ROUNDS, Seconds, ratio, take_turns
from kube.api import Manifest
from rljob_operator.cluster.resources import JOBS, PODS
from rljob_operator.names import LABEL_NAME

LANES = 32
SMALL, LARGE = 64, 1000
ADDED = b'{"type":"ADDED"'
PATIENCE_SECONDS = 300.0


def measure(folder: Path) -> Result:
    with Field.prepared(folder) as field, ExitStack() as others:
        operator = field.leader()
        _ours(field, "first", SMALL)
        others.enter_context(kopf_handlers(field))
        others.enter_context(jobset(field))
        small = take_turns(_candidates(field, SMALL))
        large = take_turns(_candidates(field, LARGE), FEWER_ROUNDS)
        memory = rss_mib(operator.process.pid)
    return _result(small, large, memory)


def _result(small: Seconds, large: Seconds, memory: float) -> Result:
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
        " share the machine's cores; each turn begins when the programs of the one before have come to rest, and the"
        " pods of the others have no label that the operator watches.",
    )


def _candidates(field: Field, pods: int) -> Mapping[str, Callable[[], float]]:
    numbers = iter(range(10**6))
    return {
        "operator": lambda: _ours(field, f"ours-{pods}-{next(numbers)}", pods),
        "bare loop": lambda: _floor(field, pods),
        "kopf": lambda: _kopf(field, f"kopf-{pods}-{next(numbers)}", pods),
        "JobSet": lambda: _jobset(field, f"jobset-{pods}-{next(numbers)}", pods),
    }


def _ours(field: Field, name: str, pods: int) -> float:
    job = iter([field.of_nodes(name, pods)])
    took = _until_heard(field, f"{LABEL_NAME}={name}", pods, JOBS.path(field.namespace), job)
    field.sample = field.pods_of(name)
    field.remove(name)
    return took


def _kopf(field: Field, name: str, pods: int) -> float:
    path, body = kopf_job(field, name, pods)
    took = _until_heard(field, f"{FOREIGN}={name}", pods, path, iter([body]))
    field.api.delete(f"{path}/{name}")
    field.remove_pods(f"{FOREIGN}={name}")
    return took


def _jobset(field: Field, name: str, pods: int) -> float:
    path, body = jobset_job(field, name, pods)
    took = _until_heard(field, f"{FOREIGN}={name}", pods, path, iter([body]))
    remove_jobset(field, name)
    return took


def _floor(field: Field, pods: int) -> float:
    """Posts the pods that the operator made just before, under other names."""
    bodies = [foreign(pod, "floor") for pod in field.sample[:pods]]
    took = _until_heard(field, f"{FOREIGN}=floor", pods, PODS.path(field.namespace), iter(bodies))
    field.remove_pods(f"{FOREIGN}=floor")
    return took


def _until_heard(field: Field, selector: str, pods: int, path: str, bodies: Iterator[Manifest]) -> float:
    """Seconds from the first request to the event of the last pod."""
    wait_for_quiet()
    return asyncio.run(_posted_and_heard(field, selector, pods, path, bodies))


async def _posted_and_heard(
    field: Field, selector: str, pods: int, path: str, bodies: Iterator[Manifest]
) -> float:
    async with field.session() as session, asyncio.timeout(PATIENCE_SECONDS):
        listening = await _listen(session, field, selector, pods)
        began = time.perf_counter()
        await asyncio.gather(*(_lane(session, field.url(path), bodies) for _ in range(LANES)))
        return await listening - began


async def _lane(session: aiohttp.ClientSession, url: str, bodies: Iterator[Manifest]) -> None:
    for body in bodies:
        async with session.post(url, data=json.dumps(body)) as answer:
            assert answer.status == 201, await answer.text()
            json.loads(await answer.read())


async def _listen(
    session: aiohttp.ClientSession, field: Field, selector: str, pods: int
) -> asyncio.Task[float]:
    """When the last of so many pods was heard of; the watch is open when this returns."""
    url = field.url(PODS.path(field.namespace))
    async with session.get(url, params={"limit": "1"}) as listed:
        version = (await listed.json())["metadata"]["resourceVersion"]
    params = {"watch": "1", "resourceVersion": version, "labelSelector": selector}
    stream = await session.get(url, params=params)

    async def heard() -> float:
        found = 0
        async with stream:
            async for line in stream.content:
                found += line.startswith(ADDED)
                if found == pods:
                    return time.perf_counter()
        raise RuntimeError(f"the watch ended after {found} of {pods} pods")

    return asyncio.create_task(heard())
