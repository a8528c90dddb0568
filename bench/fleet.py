"""Many jobs at once: how fast the status follows a pod, what an idle operator writes, its memory, a restart."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import aiohttp

from bench.operators import Field, Operator, rss_mib
from bench.result import Result, at_most
from rljob_operator.cluster.resources import JOBS, PODS
from shell.kubelet import Kubelet
from waiting import until

FLEET = int(os.environ.get("BENCH_JOBS", "1000"))
CHANGES = 200
PER_SECOND = 20.0
"""Changes of pods; a fleet of a thousand jobs has no more."""
QUIET_SECONDS = float(os.environ.get("BENCH_QUIET_SECONDS", "600"))
LIBRARIES = (
    "import kopf, aiohttp, pydantic, prometheus_client, kubernetes.aio.client, rljob_operator.__main__, time"
)


def measure(folder: Path) -> Result:
    with Field.prepared(folder) as field:
        libraries = _imports()
        operator = field.operator("--http-port", "18080")
        until(lambda: operator.says("leading"), "the operator leads")
        empty = rss_mib(operator.process.pid)
        asyncio.run(_submit_all(field))
        _wait_for_fleet(field)
        _wait_for_silence()
        lags = asyncio.run(_lags(field))
        full = rss_mib(operator.process.pid)
        writes = _writes_while_idle()
        restart = _restart(field, operator)
    pods = 2 * FLEET
    p99 = quantiles(lags, n=100)[98]
    return Result(
        name="fleet",
        checks=[
            at_most(f"seconds, p99, from a pod's change to its job's status at {FLEET} jobs", p99, 0.25),
            at_most(f"writes in {QUIET_SECONDS:g} s of {FLEET} unchanged jobs", writes, 0),
            at_most("seconds from a start to the first action", restart, 5.0),
            at_most(
                "MiB above a process that imports the same, less 12 KB a job and 4 KB a pod",
                full - libraries - (12 * FLEET + 4 * pods) / 1024,
                25.0,
            ),
        ],
        seconds={"status follows a pod": lags},
        facts={
            "jobs": FLEET,
            "pods": pods,
            "median lag, seconds": round(median(lags), 4),
            "RSS of the libraries, MiB": round(libraries),
            "RSS without jobs, MiB": round(empty),
            "RSS with all, MiB": round(full),
        },
        comment="The operator is a process of its own beside API server and etcd, on the same cores; pods are played by"
        " patches of their status. A restart is measured from the start of the process, imports included, to the pod"
        " that takes the place of one that went while no operator was there.",
    )


async def _submit_all(field: Field) -> None:
    async with field.session() as session:
        waiting = iter(range(FLEET))
        await asyncio.gather(*(submit(session, field, waiting) for _ in range(16)))


async def submit(session: aiohttp.ClientSession, field: Field, waiting: Iterator[int]) -> None:
    for number in waiting:
        body = field.body(f"job-{number}")
        async with session.post(field.url(JOBS.path(field.namespace)), json=body) as answer:
            assert answer.status == 201, await answer.text()


def _wait_for_fleet(field: Field) -> None:
    """Every job has its pods and says so."""
    deadline = time.monotonic() + 600
    while True:
        jobs = field.api.get(JOBS.path(field.namespace)).body["items"]
        started = sum(job.get("status", {}).get("trainer", {}).get("replicas", 0) == 1 for job in jobs)
        if started == FLEET:
            return
        assert time.monotonic() < deadline, f"{started} of {FLEET} jobs have started"
        time.sleep(0.5)


async def _lags(field: Field) -> list[float]:
    """Pods become ready, one after the other; each time until the status says so."""
    kubelet, heard = Kubelet(field.api, field.namespace), dict[str, float]()
    async with field.session() as session:
        listening = asyncio.create_task(_hear(session, field, heard))
        sent = {}
        for number in range(CHANGES):
            pod = f"job-{number * max(1, FLEET // CHANGES)}-trainer-0-1"
            await asyncio.to_thread(kubelet.place, pod)
            sent[pod.removesuffix("-trainer-0-1")] = time.perf_counter()
            await asyncio.to_thread(kubelet.run, pod)
            await asyncio.sleep(1 / PER_SECOND)
        while not sent.keys() <= heard.keys():
            await asyncio.sleep(0.1)
        listening.cancel()
    return [heard[job] - sent[job] for job in sent]


async def _hear(session: aiohttp.ClientSession, field: Field, heard: dict[str, float]) -> None:
    path, rest = field.url(JOBS.path(field.namespace)), b""
    async with session.get(path, params={"watch": "1"}, timeout=aiohttp.ClientTimeout(total=None)) as stream:
        async for chunk in stream.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                job = json.loads(line)["object"]
                if job.get("status", {}).get("trainer", {}).get("readyReplicas"):
                    heard.setdefault(job["metadata"]["name"], time.perf_counter())


def _wait_for_silence() -> None:
    """The operator has nothing more to say of the jobs' start."""
    before = _requests()
    while True:
        time.sleep(2)
        after = _requests()
        if all(after.get(verb) == before.get(verb) for verb in ("POST", "PATCH", "DELETE")):
            return
        before = after


def _writes_while_idle() -> float:
    """Requests that were neither reads nor the lease's, which is renewed by GET and PUT."""
    before = _requests()
    time.sleep(QUIET_SECONDS)
    after = _requests()
    grown = {verb: after.get(verb, 0) - before.get(verb, 0) for verb in after}
    renewals = grown.get("GET", 0)
    return sum(grown.get(verb, 0) for verb in ("POST", "PATCH", "DELETE", "PUT")) - renewals


def _requests() -> dict[str, float]:
    told = urllib.request.urlopen("http://127.0.0.1:18080/metrics").read().decode()
    found = re.findall(r'rljob_operator_api_requests_total\{verb="(\w+)"\} ([0-9.e+]+)', told)
    return {verb: float(number) for verb, number in found}


def _restart(field: Field, operator: Operator) -> float:
    operator.kill()
    pod = "job-0-rollout-0-0"
    field.api.send("DELETE", PODS.path(field.namespace, pod), {"gracePeriodSeconds": 0})
    field.api.delete(f"/apis/coordination.k8s.io/v1/namespaces/{field.namespace}/leases/rljob-operator")
    began = time.perf_counter()
    field.operator()
    until(lambda: field.api.get(PODS.path(field.namespace, pod)).code == 200, "the pod is back")
    return time.perf_counter() - began


def _imports() -> float:
    code = f"{LIBRARIES}; print('there', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = rss_mib(process.pid)
        process.kill()
    return found
