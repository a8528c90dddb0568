"""How long a loss takes: until a replacement is posted, until training goes on, and from SIGTERM to the exit.

One command, minutes. Everything is a ratio within this run, but for the post of a replacement, which a real API server
and the operator as a process make.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles

import aiohttp

from bench.leaving import leave_while_generating
from bench.operators import Field
from bench.result import Result, at_least, at_most
from bench.rounds import FEWER_ROUNDS, Seconds, ratio, take_turns
from e2e.local_job import LocalJob, addition
from rljob_api.progress import TrainPhase
from rljob_operator.cluster.resources import JOBS, PODS

LOSSES = 100
PATIENCE_SECONDS = 120.0
KEPT, ALL = "trainer lost, servers kept", "everything lost"
FLOOR = "floor: start of processes, load of the same bytes"
FLOOR_CODE = """
import os, sys
from pathlib import Path
from rljob_api.run import Run
from rljob_trainer.launch import _import_once

_import_once(Run.model_validate_json(Path(sys.argv[1]).read_text()))
files = [path for path in sorted(Path(sys.argv[2]).rglob("*")) if path.is_file()]
ranks = []
for rank in range(2):
    pid = os.fork()
    if pid == 0:
        for path in files[rank::2]:
            path.read_bytes()
        os._exit(0)
    ranks.append(pid)
for pid in ranks:
    os.waitpid(pid, 0)
"""
"""Starts a pod's processes with what they import, and reads the checkpoint; nothing else."""


def measure(folder: Path) -> Result:
    (folder / "api").mkdir()
    with Field.prepared(folder / "api") as field:
        posted = asyncio.run(replacements(field))
    seconds = restarts(folder / "job")
    leaving, facts = leave_while_generating(folder / "leaving")
    return Result(
        "recovery",
        [
            at_most(
                "seconds from a lost pod to its replacement's post, p99", quantiles(posted, n=100)[98], 1.0
            ),
            at_most("lost trainer pod → first step begins, over its floor", ratio(seconds, KEPT, FLOOR), 2.0),
            at_least(
                "restart of everything over a restart with the servers kept", ratio(seconds, ALL, KEPT), 3.0
            ),
            at_most(
                "SIGTERM → exit over the save alone", ratio(leaving, "SIGTERM → exit", "the save alone"), 1.2
            ),
        ],
        seconds={"lost → replacement posted": posted, **seconds, **leaving},
        facts={"median seconds, lost → replacement posted": round(median(posted), 4), **facts},
        comment="A pod of a job of one node is deleted by force, and a watch hears of the next attempt's pod: API"
        " server, etcd, operator and bench on the same cores. The restarts are those of `rljob run` on the small"
        " example: all processes of the trainer's pod, or of all pods, get SIGKILL, and the clock stops when the first"
        " phase of the next attempt's first step begins. The floor starts Python with what a rank imports, forks two"
        " and reads the checkpoint, while the job is stopped. SIGTERM comes while a warm pod generates; the save alone"
        " is that of the same model by two ranks that do nothing else, in turns with it.",
    )


async def replacements(field: Field) -> list[float]:
    """Seconds from each loss to the post of the next pod."""
    operator = field.leader()
    body = field.body("lost", trainer={"numNodes": 1})
    async with field.session() as session:
        async with session.post(field.url(JOBS.path(field.namespace)), json=body) as answer:
            assert answer.status == 201, await answer.text()
        try:
            return [await _replaced(session, field) for _ in range(LOSSES)]
        finally:
            operator.kill()
            field.remove("lost")


async def _replaced(session: aiohttp.ClientSession, field: Field) -> float:
    async with asyncio.timeout(PATIENCE_SECONDS):
        old, version = await _trainer(session, field)
        params = {"watch": "1", "resourceVersion": version, "labelSelector": "rljob.io/name=lost"}
        async with session.get(field.url(PODS.path(field.namespace)), params=params) as stream:
            began = time.perf_counter()
            options = {"gracePeriodSeconds": 0}
            async with session.delete(field.url(PODS.path(field.namespace, old)), json=options) as answer:
                assert answer.status == 200, await answer.text()
            async for line in stream.content:
                if b'"type":"ADDED"' in line and b"-trainer-" in line:
                    return time.perf_counter() - began
    raise RuntimeError("the watch ended")


async def _trainer(session: aiohttp.ClientSession, field: Field) -> tuple[str, str]:
    """The job's trainer pod, once there is one, and the version of the list that it is in."""
    while True:
        params = {"labelSelector": "rljob.io/name=lost"}
        async with session.get(field.url(PODS.path(field.namespace)), params=params) as answer:
            found = await answer.json()
        names = [pod["metadata"]["name"] for pod in found["items"]]
        trainers = sorted(
            (name for name in names if "-trainer-" in name), key=lambda name: int(name.rsplit("-", 1)[1])
        )
        if trainers:
            return trainers[-1], found["metadata"]["resourceVersion"]
        await asyncio.sleep(0.01)


def restarts(folder: Path) -> Seconds:
    """Seconds of each kind of restart of one small job."""
    job = LocalJob(addition(1_000_000, checkpoint={"savePeriod": 1}), folder).start()
    try:
        _generates(job, attempt=1)
        return take_turns(
            {
                KEPT: lambda: _lost(job, lambda name: "-trainer-" in name),
                ALL: lambda: _lost(job, lambda _: True),
                FLOOR: lambda: _floor(job),
            },
            FEWER_ROUNDS,
        )
    finally:
        job.kill()


def _lost(job: LocalJob, whose: Callable[[str], bool]) -> float:
    number = _steps_on(job)
    doomed = [pid for name, pids in job.pods().items() if name and whose(name) for pid in pids]
    began = time.monotonic()
    for pid in doomed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _generates(job, number + 1)
    return time.monotonic() - began


def _steps_on(job: LocalJob) -> int:
    """Until the attempt has done a step that was not done yet, and saved it: the one after it is done; its number."""
    seen: list[int] = []

    def went_on() -> bool:
        if now := job.progress():
            seen.append(now.step)
        return bool(seen) and seen[-1] > seen[0] + 1

    job.wait_for(went_on)
    status = job.status()
    assert status is not None
    assert status.attempt is not None
    return status.attempt.number


def _generates(job: LocalJob, attempt: int) -> None:
    """Until a step of that attempt begins."""

    def begun() -> bool:
        now = job.progress()
        return (
            now is not None
            and now.attempt >= attempt
            and now.phase in {TrainPhase.GENERATE, TrainPhase.TRAIN}
        )

    job.wait_for(begun, deadline=300)


def _floor(job: LocalJob) -> float:
    run = next((job.work_dir).rglob("run.json"))
    with stopped(job):
        newest = max((job.storage / "checkpoints").glob("step_*[0-9]"), key=lambda path: path.stat().st_mtime)
        command = [sys.executable, "-c", FLOOR_CODE, str(run), str(newest)]
        began = time.monotonic()
        subprocess.run(command, check=True, timeout=PATIENCE_SECONDS)
        return time.monotonic() - began


@contextmanager
def stopped(job: LocalJob) -> Iterator[None]:
    """In the block the job takes no time of the cores. It was short enough for nobody to be thought dead."""
    assert job.process is not None
    pids = [job.process.pid, *(pid for pids in job.pods().values() for pid in pids)]
    try:
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(pids):
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
