"""The same job looked after by kopf's own handlers, as its documentation shows them: `kopf run` loads this file.

The handler posts pods as fast as the bare loop does, so what is measured is kopf: how it hears of a job, and what it
writes itself. `bench/controllers.py` starts it.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import ssl
from pathlib import Path

import aiohttp
import kopf

SAMPLE = json.loads(Path(os.environ["BENCH_POD"]).read_text())
"""A pod as the operator makes it."""
URL, TOKEN, AUTHORITY = (os.environ[name] for name in ("BENCH_URL", "BENCH_TOKEN", "BENCH_AUTHORITY"))
LANES = 32


@kopf.on.create("rljobs.rljob.io", when=lambda spec, **_: spec.get("managedBy") == "bench/kopf")
async def create(name: str, namespace: str | None, spec: kopf.Spec, body: kopf.Body, **_: object) -> None:
    numbers = iter(range(spec["trainer"]["numNodes"] + 1))
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=AUTHORITY), limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def lane() -> None:
            for number in numbers:
                pod = copy.deepcopy(SAMPLE)
                pod["metadata"] |= {"name": f"{name}-{number}", "namespace": namespace}
                pod["metadata"]["labels"]["bench/job"] = name
                kopf.adopt(pod, owner=body)
                url = f"{URL}/api/v1/namespaces/{namespace}/pods"
                async with session.post(url, data=json.dumps(pod)) as answer:
                    answer.raise_for_status()
                    await answer.read()

        await asyncio.gather(*(lane() for _ in range(LANES)))
