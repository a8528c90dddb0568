"""`kubectl rljob logs JOB`: what all pods of a job said, each line after its pod's name."""

from __future__ import annotations

import sys
import threading
import time
from typing import Annotated

import typer

from rljob_api.base import Manifest
from rljob_api.failure import RoleName
from rljob_operator import names

from ..errors import UserMistake
from .jobs import Context, Jobs, Name, Namespace
from .wait import verdict

LOOK_SECONDS = 2.0
"""Pause between two looks for new pods."""


def logs(
    job: Name,
    *,
    role: Annotated[str, typer.Option(help="Only trainer, or only rollout.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
    tail: Annotated[int, typer.Option(help="So many last lines of each pod.", min=0)] = 20,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show what a job's pods said."""
    jobs = Jobs(namespace, context)
    jobs.get(job)
    chosen = started(jobs.pods(job), role)
    if not chosen and not follow:
        raise UserMistake(f"no pod of {job} has started yet; see `kubectl rljob status {job}`")
    if follow:
        _follow(jobs, job, role, tail)
        return
    for pod in chosen:
        _print_log(jobs, pod, follow=False, tail=tail)


def started(pods: list[Manifest], role: str) -> list[str]:
    """Names of pods whose container ran at least once, trainers first."""
    found = [pod for pod in pods if role in ("", pod["metadata"]["labels"].get(names.LABEL_ROLE))]
    ran = [pod for pod in found if any(_ran(one) for one in pod["status"].get("containerStatuses", []))]
    return [pod["metadata"]["name"] for pod in sorted(ran, key=_trainers_first)]


def _trainers_first(pod: Manifest) -> tuple[bool, str]:
    return pod["metadata"]["labels"][names.LABEL_ROLE] != RoleName.TRAINER, pod["metadata"]["name"]


def _ran(container: Manifest) -> bool:
    return "running" in container["state"] or "terminated" in container["state"]


def _follow(jobs: Jobs, job: str, role: str, tail: int) -> None:
    """A thread per pod; pods that come later are followed from their first line."""
    threads: dict[str, threading.Thread] = {}
    first = True
    while True:
        over = verdict(jobs.get(job)) is not None
        for pod in started(jobs.pods(job), role):
            if pod not in threads:
                lines = tail if first else None
                threads[pod] = threading.Thread(
                    target=_print_log, args=(jobs, pod), kwargs={"follow": True, "tail": lines}, daemon=True
                )
                threads[pod].start()
        if over:
            break
        first = False
        time.sleep(LOOK_SECONDS)
    for thread in threads.values():
        thread.join(LOOK_SECONDS)


def _print_log(jobs: Jobs, pod: str, *, follow: bool, tail: int | None) -> None:
    try:
        for line in jobs.log(pod, follow=follow, tail=tail):
            sys.stdout.write(f"[{pod}] {line}\n")
            sys.stdout.flush()
    except UserMistake as gone:  # deleted between the look and the read
        print(f"[{pod}] {gone}", file=sys.stderr)
