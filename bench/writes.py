"""What the operator writes for a job's pods, from the first to the last: created, run, complete, deleted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import aiohttp

from bench.audit import WRITES, Asked, Audit, writes
from bench.fanout import LARGE, SMALL
from bench.operators import Field
from bench.result import Facts, Result, at_most
from bench.rounds import FEWER_ROUNDS
from kube.api import Manifest
from rljob_api.progress import Ending
from rljob_operator.cluster.resources import JOBS, PODS
from shell.kubelet import container, ended, now
from waiting import until

LIMIT = 1.1
SIZES = (SMALL, LARGE)
LANES = 32
NOBODY = "127.79.0.1"
"""The pods' address: nobody tells progress there."""


def measure(folder: Path) -> Result:
    audit = Audit(folder)
    with Field.prepared(folder, *audit.flags) as field:
        field.leader()
        lives = {
            pods: [_life(field, audit, f"of-{pods}-{n}", pods) for n in range(FEWER_ROUNDS)] for pods in SIZES
        }
    per_pod = {pods: median(writes(asked) for asked in found) / pods for pods, found in lives.items()}
    return Result(
        name="writes",
        checks=[
            at_most(f"writes per pod over its life, job of {pods} pods", per_pod[pods], LIMIT)
            for pods in SIZES
        ],
        facts={
            **_by_kind(SMALL, lives[SMALL][0]),
            **_by_kind(LARGE, lives[LARGE][0]),
        },
        comment="Requests of the operator that write, by the API server's audit log, over the job's pods; the Lease's"
        " are not among them. The bench places the pods and plays their kubelets, all at once: they run, the trainers"
        " complete, the job is deleted. Beside one POST a pod there are the job's own objects, its status and its"
        " events, which are the same few for a small job, and alone come to more than a tenth of its pods.",
    )


def _by_kind(pods: int, asked: Counter[Asked]) -> Facts:
    return {
        f"job of {pods}: {verb} {resource}": count
        for (verb, resource), count in asked.most_common()
        if verb in WRITES
    }


def _life(field: Field, audit: Audit, name: str, pods: int) -> Counter[Asked]:
    """What the operator asked for meanwhile."""
    audit.wait_for_silence(1.0)
    before = audit.asked()
    field.made(JOBS.path(field.namespace), field.of_nodes(name, pods))
    until(lambda: len(field.pods_of(name)) == pods, f"{name} has its pods", 120)
    names = [pod["metadata"]["name"] for pod in field.pods_of(name)]
    asyncio.run(_at_once(field, [_placed(pod) for pod in names]))
    asyncio.run(_at_once(field, [_said(pod, _running()) for pod in names]))
    until(lambda: _ready(field, name) == pods - 1, f"the trainers of {name} are ready", 120, 0.5)
    trainers = [pod for pod in names if "-trainer-" in pod]
    asyncio.run(_at_once(field, [_said(pod, ended(pod, Ending.COMPLETE, 0)) for pod in trainers]))
    until(lambda: field.status(name).get("phase") == "Complete", lambda: field.told(name)[-3000:], 120)
    audit.wait_for_silence(1.0)
    field.remove(name)
    audit.wait_for_silence(1.0)
    return audit.asked() - before


def _ready(field: Field, name: str) -> int:
    return int(field.status(name).get("trainer", {}).get("readyReplicas", 0))


Request = tuple[str, str, Manifest]
"""Method, path below the pod's, body."""


def _placed(pod: str) -> Request:
    target = {"kind": "Node", "name": "node0"}
    return "POST", f"{pod}/binding", {"metadata": {"name": pod}, "target": target}


def _said(pod: str, status: Manifest) -> Request:
    return "PATCH", f"{pod}/status", {"status": status}


def _running() -> Manifest:
    return {
        "phase": "Running",
        "podIP": NOBODY,
        "podIPs": [{"ip": NOBODY}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [container({"running": {"startedAt": now()}})],
    }


async def _at_once(field: Field, requests: list[Request]) -> None:
    """As many kubelets would, without waiting for one another."""
    async with field.session() as session, asyncio.timeout(300):
        waiting = iter(requests)
        await asyncio.gather(*(_lane(session, field, waiting) for _ in range(LANES)))


async def _lane(session: aiohttp.ClientSession, field: Field, waiting: Iterator[Request]) -> None:
    for method, path, body in waiting:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        url = field.url(f"{PODS.path(field.namespace)}/{path}")
        async with session.request(method, url, json=body, headers={"Content-Type": kind}) as answer:
            assert answer.status in (200, 201), await answer.text()
