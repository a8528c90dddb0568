"""Many jobs at once: how fast the status follows a pod, what an idle operator asks for, its memory, a restart."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import aiohttp

from bench.audit import Asked, Audit, gets, writes
from bench.memory import peak_mib, rss_mib
from bench.operators import Field
from bench.result import Result, at_most
from bench.rounds import ROUNDS
from kube.api import Manifest
from rljob_operator.cluster.resources import JOBS, PODS
from rljob_operator.names import rollout_pod
from shell.kubelet import Kubelet
from shell.places import Operator
from waiting import until

FLEET, PODS_OF_A_JOB = 1000, 8
CHANGES = 200
PER_SECOND = 20.0
"""Changes of pods; a fleet of a thousand jobs has no more."""
QUIET_SECONDS = 600.0
LIBRARIES = (
    "aiohttp, kopf, kubernetes.aio.client, kubernetes.aio.config, prometheus_client, pydantic, ruamel.yaml"
)
"""All that the operator imports and that is not its own."""


def measure(folder: Path) -> Result:
    audit = Audit(folder)
    with Field.prepared(folder, *audit.flags) as field:
        libraries = median(_imports() for _ in range(ROUNDS))
        operator = field.leader()
        empty = rss_mib(operator.process.pid)
        asyncio.run(_submit_all(field))
        _wait_for_fleet(field)
        audit.wait_for_silence()
        lags = asyncio.run(_lags(field))
        audit.wait_for_silence()
        memory = [rss_mib(operator.process.pid)]
        idle = _asked_while_idle(audit)
        restarts = _restarts(field, audit, memory)
        peak = peak_mib(field.operators[-1].process.pid)
    return _result(lags, idle, restarts, [libraries, empty, *memory], peak)


def _result(
    lags: list[float], idle: Counter[Asked], restarts: list[float], memory: list[float], peak: float
) -> Result:
    """`memory` in MiB: of the libraries, of an operator without jobs, then of those with all; `peak` of the last."""
    libraries, empty, *full = memory
    pods = PODS_OF_A_JOB * FLEET
    quiet = f"in {QUIET_SECONDS:g} s of {FLEET} unchanged jobs, beside the Lease"
    return Result(
        name="fleet",
        checks=[
            at_most(
                f"seconds, p99, from a pod's change to its job's status at {FLEET} jobs",
                quantiles(lags, n=100)[98],
                0.25,
            ),
            at_most(f"writes {quiet}", writes(idle), 0),
            at_most(f"GETs of one object {quiet}", gets(idle), 0),
            at_most(
                f"seconds from a start to the first action, {FLEET} jobs, {pods} pods", median(restarts), 5
            ),
            at_most(
                "MiB above a process that imports the same libraries, less 12 KB a job and 4 KB a pod",
                max(full) - libraries - (12 * FLEET + 4 * pods) / 1024,
                25.0,
            ),
        ],
        seconds={"status follows a pod": lags, "start → first action": restarts},
        facts={
            "jobs": FLEET,
            "pods": pods,
            "RSS of the libraries, MiB": round(libraries),
            "RSS without jobs, MiB": round(empty),
            "RSS with all, after making them, MiB": round(full[0]),
            "RSS with all, largest after a restart, MiB": round(max(full[1:])),
            "RSS with all, at most while it starts, MiB": round(peak),
        },
        comment="The operator is a process of its own beside API server and etcd, on the same cores; pods are played by"
        " patches of their status. Requests are counted by the API server's audit log, which knows GET from LIST. A"
        " restart is measured from the start of the process, imports included, to the pod that takes the place of one"
        " that went while no operator was there; the one before was told to stop, so it had given its Lease back: after"
        " a crash the next one waits for the rest of the Lease first, 15 s at most. Before its first action it lists"
        " 8,000 pods and 1,000 jobs: all of that goes through one core of Python, which kopf's own list shares, beside"
        " an API server on the other. All lists are read in pages, and kopf lets go of a job a moment after it told of"
        " it: what a list takes for a moment leaves gaps between what stays, which neither a garbage collection nor"
        " `malloc_trim` gives back.",
    )


async def _submit_all(field: Field) -> None:
    async with field.session() as session:
        bodies = iter([field.of_nodes(f"job-{number}", PODS_OF_A_JOB) for number in range(FLEET)])
        await asyncio.gather(*(submit(session, field, bodies) for _ in range(16)))


async def submit(session: aiohttp.ClientSession, field: Field, bodies: Iterator[Manifest]) -> None:
    """One job after the other."""
    for body in bodies:
        async with session.post(field.url(JOBS.path(field.namespace)), json=body) as answer:
            assert answer.status == 201, await answer.text()


def _wait_for_fleet(field: Field) -> None:
    """Every job has its pods and says so."""
    trainers = PODS_OF_A_JOB - 1

    def started() -> bool:
        jobs = field.api.get(JOBS.path(field.namespace)).body["items"]
        told = [job.get("status", {}).get("trainer", {}).get("replicas", 0) for job in jobs]
        return told.count(trainers) == FLEET

    until(started, f"{FLEET} jobs have started", 600, 1.0)


async def _lags(field: Field) -> list[float]:
    """Pods become ready, one after the other; each time until the status says so."""
    kubelet, heard = Kubelet(field.api, field.namespace), dict[str, float]()
    sent, hears = dict[str, float](), asyncio.Event()
    async with field.session() as session, asyncio.timeout(300):
        listening = asyncio.create_task(_hear(session, field, heard, hears))
        await hears.wait()
        for number in range(CHANGES):
            job = f"job-{number * max(1, FLEET // CHANGES)}"
            await asyncio.to_thread(kubelet.place, f"{job}-trainer-0-1")
            sent[job] = time.perf_counter()
            await asyncio.to_thread(kubelet.run, f"{job}-trainer-0-1")
            await asyncio.sleep(1 / PER_SECOND)
        while not sent.keys() <= heard.keys():
            await asyncio.sleep(0.1)
        listening.cancel()
    return [heard[job] - sent[job] for job in sent]


async def _hear(
    session: aiohttp.ClientSession, field: Field, heard: dict[str, float], hears: asyncio.Event
) -> None:
    """Of what changes from now on: jobs as they are would keep its ears, and the machine, busy for two seconds."""
    jobs, rest = JOBS.path(field.namespace), b""
    now = field.api.get(f"{jobs}?limit=1").body["metadata"]["resourceVersion"]
    params, forever = {"watch": "1", "resourceVersion": now}, aiohttp.ClientTimeout(total=None)
    async with session.get(field.url(jobs), params=params, timeout=forever) as stream:
        hears.set()
        async for chunk in stream.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                job = json.loads(line)["object"]
                if job.get("status", {}).get("trainer", {}).get("readyReplicas"):
                    heard.setdefault(job["metadata"]["name"], time.perf_counter())


def _asked_while_idle(audit: Audit) -> Counter[Asked]:
    before = audit.asked()
    time.sleep(QUIET_SECONDS)
    return audit.asked() - before


def _restarts(field: Field, audit: Audit, memory: list[float]) -> list[float]:
    """Seconds of each; what the new operators then hold is added to `memory`."""
    took = []
    for number in range(ROUNDS):
        field.operators[-1].stop()
        seconds, operator = _started_anew(field, f"job-{number}")
        took.append(seconds)
        audit.wait_for_silence()
        memory.append(rss_mib(operator.process.pid))
    return took


def _started_anew(field: Field, job: str) -> tuple[float, Operator]:
    """Without the server of that job; until its replacement is there."""
    lost, new = (PODS.path(field.namespace, rollout_pod(job, 0, serial)) for serial in (0, 1))
    field.api.send("DELETE", lost, {"gracePeriodSeconds": 0})
    began = time.perf_counter()
    operator = field.operator()
    until(lambda: field.api.get(new).code == 200, f"{new} is there", 120)
    return time.perf_counter() - began, operator


def _imports() -> float:
    """MiB of a process that has imported the libraries."""
    code = f"import {LIBRARIES}; print('there', flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline(), "the libraries cannot be imported"
        found = rss_mib(process.pid)
        process.kill()
    return found
