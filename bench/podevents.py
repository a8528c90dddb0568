"""How many events of pods the operator takes in on one core, from the stream's bytes to the cache of its facts.

A process of its own plays the API server: it lists 8,000 pods of 1,000 jobs, then tells of changes as fast as they are
read. What counts is the processor time of the reader, so it does not matter who else uses the cores.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from aiohttp import web
from kubernetes.aio.client import Configuration

from bench.peer import Peer, tell
from bench.result import Result, at_least
from bench.rounds import take_turns
from rljob_api.failure import RoleName
from rljob_operator import names
from rljob_operator.cluster.children import Children
from rljob_operator.cluster.client import Client
from rljob_operator.cluster.resources import PODS
from rljob_operator.watch import Scope, Watch

JOBS, PODS_OF_A_JOB, EVENTS = 1000, 8, 20_000
PODS_IN_ALL = JOBS * PODS_OF_A_JOB
LIMIT = 8000.0
PATIENCE_SECONDS = 120.0
NAME = f"processor seconds of {EVENTS} events"


def measure(folder: Path) -> Result:
    server = Peer(__name__, {}, 1, folder / "server.log")
    try:
        port = server.answer()["port"]
        seconds = take_turns({NAME: lambda: asyncio.run(_take_in(port))})
    finally:
        server.close()
    return Result(
        name="podevents",
        checks=[
            at_least(
                "pod events per processor second, from the stream to the cache",
                EVENTS / median(seconds[NAME]),
                LIMIT,
            )
        ],
        seconds=seconds,
        facts={"pods": PODS_IN_ALL, "bytes of an event": len(_event(0, 1))},
        comment="The operator's own client, watch and cache, in one process; its passes are not among it, as"
        " many events of a job lead to one.",
    )


async def _take_in(port: int) -> float:
    """Processor seconds of all events after the first list."""
    children = Children(lambda key: None)
    async with Client(Configuration(host=f"http://127.0.0.1:{port}")) as client:
        watch = Watch(client, Scope(PODS, "", names.LABEL_NAME, False), children.pods)
        watching = asyncio.create_task(watch.run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await watch.synced.wait()
            began = time.process_time()
            while not children.pods.of(("default", "last")):
                await asyncio.sleep(0.01)
            took = time.process_time() - began
        watching.cancel()
    return took


def _pod(number: int, version: int) -> dict[str, Any]:
    """As a kubelet leaves it: most of an event is what nobody asks for."""
    job = f"job-{number % JOBS}" if number < PODS_IN_ALL else "last"
    ready = {"type": "Ready", "status": "True" if version // PODS_IN_ALL % 2 else "False"}
    env = [{"name": f"VARIABLE_{index}", "value": "x" * 20} for index in range(20)]
    main = {"name": "main", "image": "example/rljob-trainer:1", "env": env}
    return {
        "metadata": {
            "name": f"{job}-{number}",
            "namespace": "default",
            "uid": f"uid-{number}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": names.pod_labels(job, RoleName.TRAINER, number, 1),
            "ownerReferences": [{"uid": f"uid-of-{job}", "controller": True}],
        },
        "spec": {"nodeName": "n1", "containers": [main]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [ready, {"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"name": "main", "state": {"running": {}}}],
        },
    }


def _event(number: int, version: int) -> bytes:
    return json.dumps({"type": "MODIFIED", "object": _pod(number, version)}).encode() + b"\n"


def _events() -> Iterator[bytes]:
    """In chunks, the last of a pod that was not there before."""
    lines = [_event(index % (PODS_IN_ALL), index + PODS_IN_ALL) for index in range(EVENTS - 1)]
    lines.append(_event(PODS_IN_ALL, EVENTS + PODS_IN_ALL))
    for start in range(0, EVENTS, 50):
        yield b"".join(lines[start : start + 50])


def main() -> None:
    """The server's side."""
    listed = [_pod(number, 1) for number in range(PODS_IN_ALL)]
    chunks = list(_events())

    async def pods(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": listed})
        stream = web.StreamResponse()
        await stream.prepare(request)
        for chunk in chunks:
            await stream.write(chunk)
        await asyncio.sleep(3600)
        return stream

    async def serve() -> None:
        app = web.Application()
        app.router.add_get(PODS.path(), pods)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        tell({"port": runner.addresses[0][1]})
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
